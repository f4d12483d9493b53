"""A network between clients and Postgres that cuts a chunk's COMMIT off: before Postgres receives it, or before its answer arrives."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from enum import StrEnum
from urllib.parse import urlsplit

from backfill.store.address import connection_options

# What completes a chunk or gives it back (store/chunks.py), and the simple query that ends its transaction.
COMPLETES = b"UPDATE backfill_chunks SET status = 'completed'"
GIVES_BACK = b"UPDATE backfill_chunks SET status = 'pending', sent_at = NULL"
_COMMIT = b"Q\0\0\0\x0bCOMMIT\0"


class Cut(StrEnum):
    """Where the connection ends."""

    before = "before Postgres has the COMMIT"
    after = "after Postgres has executed the COMMIT, before the client knows"


class CuttingProxy:
    """``url`` leads to the same database; connections go through, but for those that ``cut`` ends. ``cuts`` tells which did.

    ``of``: cut the COMMIT of a transaction with this statement in it.
    """

    def __init__(self, database_url: str, of: bytes = COMPLETES) -> None:
        path = connection_options(database_url)["unix_sock"]
        if path is None:
            raise ValueError("the proxy leads to a Unix socket; give a URL with ?host=/directory")
        self._path: str = path
        self._of = of
        self._listener = socket.create_server(("127.0.0.1", 0))
        parts = urlsplit(database_url)
        self.url = (
            f"postgresql://{parts.username or 'postgres'}@127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        )
        self.cuts: list[Cut] = []
        self._due: list[Cut] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def cut(self, *places: Cut) -> None:
        """The next of these COMMITs end so, one each."""
        with self._lock:
            self._due += places

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._path)
            except OSError:
                _end(client, server)  # Postgres is away
                continue
            lost = threading.Event()
            threading.Thread(target=self._forward, args=(client, server, lost), daemon=True).start()
            threading.Thread(target=self._back, args=(client, server, lost), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        is_one = False
        while data := _received(client):
            is_one |= self._of in data
            if data.endswith(_COMMIT):
                place = self._next() if is_one else None
                is_one = False
                if place is Cut.before:
                    self.cuts.append(place)
                    break
                if place is Cut.after:
                    lost.set()
            if not _sent(server, data):
                break
        _end(client, server)

    def _back(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        while data := _received(server):
            if lost.is_set():
                if b"COMMIT\0" in data:
                    self.cuts.append(Cut.after)
                break
            if not _sent(client, data):
                break
        _end(client, server)

    def _next(self) -> Cut | None:
        with self._lock:
            return self._due.pop(0) if self._due else None


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 18)
    except OSError:
        return b""


def _sent(target: socket.socket, data: bytes) -> bool:
    try:
        target.sendall(data)
    except OSError:
        return False
    return True


def _end(*ends: socket.socket) -> None:
    for each in ends:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
