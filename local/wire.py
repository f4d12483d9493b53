"""A network between a client and Postgres: it adds delay, and counts how often the client waits for an answer."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from queue import SimpleQueue
from urllib.parse import urlsplit

from backfill.store.address import connection_options

# A client waits after these messages: Query, Sync, CopyDone, and the unused FunctionCall.
# https://www.postgresql.org/docs/current/protocol-message-formats.html
_WAITS = b"QSc"


class Wire:
    """``with Wire(database_url, round_trip_seconds) as wire: connect(wire.url)``. A process of its own carries the bytes."""

    def __init__(self, database_url: str, round_trip_seconds: float = 0.0) -> None:
        socket_path = connection_options(database_url)["unix_sock"]
        if socket_path is None:
            raise ValueError("the wire leads to a Unix socket; give a URL with ?host=/directory")
        self._here, there = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(there, socket_path, round_trip_seconds / 2), daemon=True
        )
        self._process.start()
        there.close()
        parts = urlsplit(database_url)
        user = (parts.username or "postgres") + (f":{parts.password}" if parts.password else "")
        self.url = f"postgresql://{user}@127.0.0.1:{self._here.recv()}{parts.path}?sslmode=disable"

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._process.join(5)
        self._process.terminate()

    def waits(self) -> int:
        """How often clients have waited for Postgres so far."""
        self._here.send(None)
        return int(self._here.recv())


def _serve(control: Connection, socket_path: str, delay: float) -> None:
    seen: Counter[int] = Counter()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, socket_path, delay, seen), daemon=True).start()
        control.send(listener.getsockname()[1])
        try:
            while True:
                control.recv()
                control.send(sum(seen[code] for code in _WAITS))
        except EOFError:
            return


def _accept(listener: socket.socket, socket_path: str, delay: float, seen: Counter[int]) -> None:
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = socket.socket(socket.AF_UNIX)
        server.connect(socket_path)
        for source, target, counts in ((client, server, seen), (server, client, None)):
            arrivals: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
            threading.Thread(target=_receive, args=(source, arrivals, delay, counts), daemon=True).start()
            threading.Thread(target=_deliver, args=(target, arrivals), daemon=True).start()


def _receive(
    source: socket.socket, arrivals: SimpleQueue[tuple[float, bytes]], delay: float, seen: Counter[int] | None
) -> None:
    # The first message of a client, the startup, has no type and is not counted.
    waiting, typed = b"", False
    while True:
        try:
            data = source.recv(1 << 18)
        except OSError:
            data = b""
        arrivals.put((time.monotonic() + delay, data))
        if not data:
            return
        if seen is not None:
            waiting += data
            start = 0
            while len(waiting) - start >= 4 + typed:
                size = int.from_bytes(waiting[start + typed : start + typed + 4]) + typed
                if len(waiting) - start < size:
                    break
                if typed:
                    seen[waiting[start]] += 1
                start, typed = start + size, True
            waiting = waiting[start:]


def _deliver(target: socket.socket, arrivals: SimpleQueue[tuple[float, bytes]]) -> None:
    while True:
        due, data = arrivals.get()
        if (left := due - time.monotonic()) > 0:
            time.sleep(left)
        try:
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(data)
        except OSError:
            return
