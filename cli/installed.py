"""The entry point of the wheel, where it is progressive_backfill/__init__.py: the packages of the checkout lie beside it.

Their names are common ones. They stay in a folder of their own, so that no other package of the environment is hit.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Run the command."""
    sys.path.insert(0, str(Path(__file__).parent))
    from cli.main import app

    app(prog_name="backfill")
