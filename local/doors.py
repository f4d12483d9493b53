"""The settings with which functions reach the local stack from containers, and without: `make env-file`.

Both ways take one file. Its addresses name this machine host.docker.internal, as containers know it.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psutil

MACHINE = "host.docker.internal"
BRIDGE = "docker0"
# Variables that a function reads. AWS_REGION is for `make invoke-…`: the SAM CLI takes the region from --region alone.
NAMES = (
    "DATABASE_URL",
    "GITHUB_TOKEN",
    "GITHUB_API_URL",
    "AWS_ENDPOINT_URL",
    "CHUNK_QUEUE_URL",
    "PLAN_QUEUE_URL",
    "DEAD_LETTER_QUEUE_URL",
)
_LOOPBACK = re.compile(r"(?<=[/@])(?:localhost|127\.0\.0\.1|\[::1\])(?=[:/]|$)")


def bridge_address(interfaces: Mapping[str, Any] | None = None) -> str | None:
    """The address at which containers know this machine; None where Docker itself leads them to loopback, or does not run."""
    if sys.platform != "linux":
        return None
    found = psutil.net_if_addrs() if interfaces is None else interfaces
    return next((str(each.address) for each in found.get(BRIDGE, ()) if each.family == socket.AF_INET), None)


def loopback_ports(environment: Mapping[str, str]) -> list[int]:
    """The ports of loopback that the settings name, without Postgres' Unix socket."""
    urls = (urlsplit(environment.get(name, "")) for name in NAMES if name.endswith("_URL"))
    return sorted({url.port for url in urls if url.port and url.hostname in ("localhost", "127.0.0.1", "::1")})


def socket_of(database_url: str) -> str | None:
    """Postgres' Unix socket, or None for a server that is reached by TCP."""
    url = urlsplit(database_url)
    folder = parse_qs(url.query).get("host", [""])[0]
    return f"{folder}/.s.PGSQL.{url.port or 5432}" if folder.startswith("/") else None


def database_by_tcp(database_url: str, port: int, password: str) -> str:
    """The URL of the same database through the relay."""
    url = urlsplit(database_url)
    user = url.username or "postgres"
    return f"postgresql://{user}:{quote(password, safe='')}@{MACHINE}:{port}{url.path}?sslmode=disable"


def new_password() -> str:
    """A password for one life of the relay."""
    return secrets.token_urlsafe(16)


def for_containers(environment: Mapping[str, str], database_url: str) -> dict[str, str]:
    """The settings as a container needs them."""
    found = {name: _LOOPBACK.sub(MACHINE, environment[name]) for name in NAMES if name in environment}
    found["DATABASE_URL"] = _LOOPBACK.sub(MACHINE, database_url)
    found["AWS_REGION"] = environment["AWS_DEFAULT_REGION"]
    return found


def without_containers(settings: Mapping[str, str]) -> dict[str, str]:
    """The same settings for a process of this machine, which does not know the containers' name for it."""
    return {name: value.replace(MACHINE, "127.0.0.1") for name, value in settings.items()}


def write(file: Path, settings: Mapping[str, str]) -> None:
    """The file that `sam local invoke --env-vars` takes. It holds secrets: only its owner may read it."""
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text(json.dumps({"Parameters": dict(settings)}, indent=2) + "\n", encoding="utf-8")
