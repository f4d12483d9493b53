"""What `sam build` made, kept by the content that it was made from: the same content is built once on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# What a build is made from, below the folder of its template.
SOURCES = ("template.yaml", "monitoring.yaml", "functions", "layers", "migrations", "requirements")
IGNORED = "__pycache__"
# A build has some 50 MB.
KEPT = 6
UNFINISHED = "unfinished"
# Stands in a kept template for the folder of the sources.
SOURCE = "../source/"
_PLACE = re.compile(r"((?:CodeUri|ContentUri): )(\.\./\S+)")


def content_of(source: Path, settings: Mapping[str, str]) -> str:
    """A hash of everything that a build is made from: the sources, and ``settings`` of the build."""
    found = hashlib.sha256(repr((sys.version, sorted(settings.items()))).encode())
    for top in SOURCES:
        place = source / top
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if IGNORED in path.parts or (path.is_dir() and not path.is_symlink()):
                continue
            # A link is what it leads to, which is one of the sources as well.
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            name = str(path.relative_to(source))
            found.update(repr((name, path.is_symlink(), path.lstat().st_mode & 0o777, len(content))).encode() + content)
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Build:
    """One build: the folder of its sources, what they are (`content_of`), and where its copy goes."""

    source: Path
    content: str
    folder: Path


def built(cache: Path, wanted: Build, build: Callable[[Path], None]) -> None:
    """Put a copy of the build into its folder. ``build`` makes it in a folder, if the cache does not have it.

    Processes that want it at the same time wait for the first one. A build that fails is not kept.
    """
    source, content, folder = wanted.source, wanted.content, wanted.folder
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / "lock"):
        kept = cache / content
        if not kept.is_dir():
            # What an earlier build left that failed, or was killed.
            new = cache / UNFINISHED
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            build(new)
            _change_places(new, lambda place: SOURCE + str((new / place).resolve().relative_to(source.resolve())))
            new.rename(kept)
        kept.touch()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder, symlinks=True)
        _change_places(
            folder, lambda place: os.path.relpath(source.resolve() / place.removeprefix(SOURCE), folder.resolve())
        )
        builds = sorted(
            (each for each in cache.iterdir() if each.is_dir() and each.name != UNFINISHED),
            key=lambda each: each.stat().st_mtime,
        )
        for each in builds[:-KEPT]:
            shutil.rmtree(each)


def _change_places(folder: Path, change: Callable[[str], str]) -> None:
    """In the built template, the places in the sources: SAM ships most functions from there, and does not copy them."""
    template = folder / "template.yaml"
    text = template.read_text(encoding="utf-8")
    template.write_text(_PLACE.sub(lambda found: found[1] + change(found[2]), text), encoding="utf-8")


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
