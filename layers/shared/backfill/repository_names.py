"""Names of repositories and owners as a person types them, and addresses of GitHub."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9._-]+")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# git@github.com:OWNER/NAME.git, as `git clone` takes it.
_SSH = re.compile(r"(?:[^@/:]+@)?(?P<host>[^@/:]+):(?P<path>[^/].*)")


class NotAName(ValueError):
    """The text is not a repository; the message shows the text and the form."""


def repository_name(text: str) -> str:
    """OWNER/NAME of a name or of any address below a repository on GitHub. Raises NotAName.

    >>> repository_name("https://github.com/pytorch/pytorch/pull/4711")
    'pytorch/pytorch'
    >>> repository_name("git@github.com:pytorch/pytorch.git")
    'pytorch/pytorch'
    """
    wanted = text.strip()
    place = _place(wanted)
    if place is not None:
        host, path = place
        if not _is_github(host):
            raise NotAName(f"{text!r} is not an address of GitHub; write OWNER/NAME, as in pytorch/pytorch")
        wanted = "/".join(path.strip("/").split("/")[:2])
    wanted = wanted.removesuffix(".git")
    if not _NAME.fullmatch(wanted):
        raise NotAName(f"{text!r} is not OWNER/NAME, as in pytorch/pytorch, and not an address of GitHub")
    return wanted


def owner_name(text: str) -> str:
    """The name of an organisation or a user, or any address below it on GitHub. Raises NotAName.

    >>> owner_name("https://github.com/orgs/pytorch/repositories")
    'pytorch'
    """
    wanted = text.strip()
    place = _place(wanted)
    if place is not None:
        host, path = place
        parts = [part for part in path.split("/") if part]
        if parts[:1] == ["orgs"]:
            parts = parts[1:]
        wanted = parts[0] if parts and _is_github(host) else ""
    if not _OWNER.fullmatch(wanted):
        raise NotAName(
            f"{text!r} is not the name of an organisation or a user, as pytorch, and not its address on GitHub"
        )
    return wanted


def _place(text: str) -> tuple[str, str] | None:
    """Host and path of an address; None if the text is not an address."""
    if "://" in text:
        try:
            parts = urlsplit(text)
            return parts.hostname or "", parts.path
        except ValueError:
            return "", ""
    ssh = _SSH.fullmatch(text)
    if ssh:
        return ssh["host"], ssh["path"]
    host, _, path = text.partition("/")
    # An owner has no dot in its name.
    return (host, re.split("[?#]", path)[0]) if "." in host else None


def _is_github(host: str) -> bool:
    """Whether the host is github.com, GHE.com, or an Enterprise Server with "github" in its name."""
    name = host.lower()
    return name == "github.com" or name.endswith(".ghe.com") or any("github" in part for part in name.split("."))
