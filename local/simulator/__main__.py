"""Run the simulator as a process: python -m local.simulator --help."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from pathlib import Path

from local.simulator import Simulator, generate, load

# What a machine without real data works on.
GENERATED = {"octo/large": 2000, "octo/medium": 300, "octo/small": 60}


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m local.simulator",
        description="A GitHub GraphQL API on pull requests of a folder, or on generated ones.",
        epilog="Example: python -m local.simulator --generate 1 --speed 10 --port 8080",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with *.jsonl.gz")
    source.add_argument("--generate", type=int, metavar="SEED", help="generate repositories from this seed")
    parser.add_argument("--speed", type=float, default=10.0, help="times as fast as GitHub (default 10)")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--port-file", type=Path, help="write the port here when ready")
    arguments = parser.parse_args()
    repositories = load(arguments.data) if arguments.data else generate(arguments.generate, GENERATED)
    # They stay: a collection that looks through all of them stops every reply for a third of a second.
    gc.freeze()
    simulator = Simulator(repositories, speed=arguments.speed, port=arguments.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if arguments.port_file:
        arguments.port_file.write_text(simulator.url.rsplit(":", 1)[1], encoding="utf-8")
    print(f"GitHub simulator on {simulator.url}", flush=True)
    simulator.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
