"""The local stack of this checkout, if it runs, found by its file without exported variables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The kernel and the stack may differ by so much about a process's start, even after the clock was set.
SAME_PROCESS_SECONDS = 5
FOLDER = Path(__file__).parents[1] / ".local"
# Each of these chooses another AWS or another account. A region alone does not.
CHOICES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_LAMBDA",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)


@dataclass(frozen=True, slots=True)
class LocalStack:
    """The local AWS of a folder, and how to reach it."""

    folder: Path
    name: str
    region: str
    endpoint_url: str
    access_key: str
    secret_key: str


def found(folder: Path | None = None, environment: Mapping[str, str] = os.environ) -> LocalStack | None:
    """The local stack that runs, unless the environment chooses an AWS."""
    if any(environment.get(name) for name in CHOICES):
        return None
    # Another folder of this checkout's holds a second stack.
    place = folder or (Path(environment["LOCAL_FOLDER"]) if environment.get("LOCAL_FOLDER") else FOLDER)
    state = running(place)
    if state is None:
        return None
    own = state["environment"]
    return LocalStack(
        place,
        own["STACK_NAME"],
        own["AWS_DEFAULT_REGION"],
        own["AWS_ENDPOINT_URL"],
        own["AWS_ACCESS_KEY_ID"],
        own["AWS_SECRET_ACCESS_KEY"],
    )


def running(folder: Path) -> dict[str, Any] | None:
    """The state of a stack that is ready, or None. A file whose processes have ended does not count."""
    try:
        state: dict[str, Any] = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:  # it is being written
        return None
    return state if state.get("ready") and all(is_ours(state, name) for name in state["processes"]) else None


def is_ours(state: Mapping[str, Any], name: str) -> bool:
    """Whether the process that was started still runs."""
    return is_alive(state["processes"][name]) and not is_anothers(state, name)


def is_anothers(state: Mapping[str, Any], name: str) -> bool:
    """Whether another process has our process's number now."""
    # Only where a stack's file is: not for every command.
    import psutil

    pid, began = state["processes"][name], state.get("began", {}).get(name)
    try:
        return began is not None and bool(abs(psutil.Process(pid).create_time() - began) > SAME_PROCESS_SECONDS)
    except psutil.NoSuchProcess:
        return False


def is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
