"""Docker for tests, and an image that stands in for Lambda's where AWS's registry cannot be reached.

The stand-in is a Debian with the same minor version of Python, AWS's runtime client and what Lambda has beside it. The SAM CLI adds
the emulator and the layer itself, as it does to AWS's image. Addresses of registries come from this machine's own configuration.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from local.doors import BRIDGE
from local.stack import ROOT, machine_architecture

IMAGE = f"public.ecr.aws/lambda/python:3.13-{machine_architecture()}"
# The Debian whose Python is 3.13.
SUITE = "trixie"
START_SECONDS = 60
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH=/var/task:/opt/python:/var/runtime
exec /usr/bin/python3 -m awslambdaric "$_HANDLER"
"""


class NotHere(Exception):
    """Docker cannot be started on this machine, or there is no image; why."""


@contextmanager
def docker_with_image() -> Iterator[dict[str, str]]:
    """What to set to use a Docker that has Lambda's image. Raises NotHere."""
    if _runs({}):
        if subprocess.run(["docker", "pull", "-q", IMAGE], capture_output=True, check=False).returncode:
            raise NotHere(f"{IMAGE} cannot be pulled, and images of this machine's own Docker are left alone")
        yield {}
        return
    missing = [name for name in ("docker", "dockerd", "debootstrap") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        raise NotHere(f"no Docker runs here, and none can be started: {', '.join(missing) or 'not root'}")
    # Sockets have short names.
    folder = Path(tempfile.mkdtemp(prefix="docker-", dir="/tmp"))
    try:
        with _daemon(folder) as settings:
            _make_image(folder / "root", settings)
            yield {**settings, "SAM_SKIP_PULL_IMAGE": "true"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _runs(settings: dict[str, str]) -> bool:
    try:
        asked = subprocess.run(["docker", "info"], env={**os.environ, **settings}, capture_output=True, check=False)
    except OSError:
        return False
    return asked.returncode == 0


@contextmanager
def _daemon(folder: Path) -> Iterator[dict[str, str]]:
    """A Docker of this test's own. It changes no rule of the firewall and forwards nothing: containers reach this machine."""
    settings = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
    had_bridge = BRIDGE in psutil.net_if_addrs()
    command = ["dockerd", f"--host={settings['DOCKER_HOST']}", f"--pidfile={folder}/docker.pid"]
    command += [f"--data-root={folder}/data", f"--exec-root={folder}/exec"]
    command += ["--iptables=false", "--ip-masq=false", "--ip-forward=false"]
    log = folder / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _runs(settings):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise NotHere(f"dockerd does not start: {log.read_text(encoding='utf-8').splitlines()[-1:]}")
            time.sleep(0.3)
        yield settings
    finally:
        daemon.terminate()
        daemon.wait()
        if not had_bridge:
            subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)


def _make_image(root: Path, settings: dict[str, str]) -> None:
    listed = _output(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    )
    mirrors = [line.split()[2] for line in listed.splitlines() if line.startswith("Debian main ")]
    mirror = next((each for each in mirrors if "security" not in each), None)
    if mirror is None:
        raise NotHere("apt knows no Debian here")
    _output(["debootstrap", "--variant=minbase", "--include=python3,ca-certificates", SUITE, str(root), mirror])
    for name in ("var/runtime", "var/task", "var/rapid", "opt"):
        (root / name).mkdir(parents=True, exist_ok=True)
    machine = {"arm64": "aarch64", "x86_64": "x86_64"}[machine_architecture()]
    install = [str(ROOT / ".venv/bin/uv"), "pip", "install", "--quiet", "--target", str(root / "var/runtime")]
    install += ["--python-platform", f"{machine}-manylinux_2_28", "--python-version", "3.13", "--only-binary", ":all:"]
    _output([*install, "--require-hashes", "-r", str(ROOT / "requirements/lambda.txt")])
    bootstrap = root / "var/runtime/bootstrap"
    bootstrap.write_text(BOOTSTRAP, encoding="utf-8")
    bootstrap.chmod(0o755)
    packed = root.with_suffix(".tar")
    _output(["tar", "-C", str(root), "--exclude=./proc/*", "--exclude=./sys/*", "-cf", str(packed), "."])
    changes = ["WORKDIR /var/task", "ENV LAMBDA_TASK_ROOT=/var/task LAMBDA_RUNTIME_DIR=/var/runtime TZ=:UTC"]
    _output(["docker", "import", *(f"--change={each}" for each in changes), str(packed), IMAGE], settings)


def _output(command: list[str], settings: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env={**os.environ, **(settings or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout
