"""A relay that opens the local stack to containers: `python -m local.relay --help`. Its caller is local/doors.py.

The simulator and the local AWS listen on loopback, and Postgres on a Unix socket; a container reaches neither. The relay listens
on further addresses and copies bytes. Postgres trusts its socket, so the relay asks for a password first.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import os
import signal
import struct
from collections.abc import Callable, Coroutine

# The requests of a client before it starts: https://www.postgresql.org/docs/current/protocol-message-formats.html
SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
STARTUP_LIMIT = 10_000
ASK_FOR_PASSWORD = b"R" + struct.pack("!ii", 8, 3)
REFUSED_FIELDS = b"SFATAL\0C28P01\0Mpassword authentication failed at the relay of the local stack\0\0"
REFUSED = b"E" + struct.pack("!i", len(REFUSED_FIELDS) + 4) + REFUSED_FIELDS
CHUNK_BYTES = 65536

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        # One side is gone: the other learns it by the end of its connection.
        writer.close()


async def _join(client: Opened, server: Opened) -> None:
    try:
        await asyncio.gather(_copy(client[0], server[1]), _copy(server[0], client[1]))
    finally:
        client[1].close()
        server[1].close()


def tcp(port: int) -> Serve:
    """Copy to a port of this machine's loopback."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await _join((reader, writer), server)

    return serve


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
    """The client's first message, after it was told that there is no TLS here: its code, and the whole of it."""
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack("!ii", head)
        if not 8 <= length <= STARTUP_LIMIT:
            raise ConnectionError("not a start of PostgreSQL's protocol")
        message = head + await reader.readexactly(length - 8)
        if code not in (SSL_REQUEST, GSS_REQUEST):
            return code, message
        writer.write(b"N")


async def _password(reader: asyncio.StreamReader) -> bytes:
    kind, length = struct.unpack("!ci", await reader.readexactly(5))
    if kind != b"p" or not 4 <= length <= STARTUP_LIMIT:
        raise ConnectionError("not a password")
    return (await reader.readexactly(length - 4)).rstrip(b"\0")


def postgres(socket: str, password: str) -> Serve:
    """Copy to Postgres' Unix socket after the client gave the password."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            code, startup = await _startup(reader, writer)
            if code != CANCEL_REQUEST:
                writer.write(ASK_FOR_PASSWORD)
                if not hmac.compare_digest(await _password(reader), password.encode()):
                    writer.write(REFUSED)
                    await writer.drain()
                    raise ConnectionError("wrong password")
            server = await asyncio.open_unix_connection(socket)
        except (OSError, EOFError):
            writer.close()
            return
        server[1].write(startup)
        await _join((reader, writer), server)

    return serve


async def run(bridge: list[str], ports: list[int], database: tuple[int, Serve] | None) -> None:
    """Listen until SIGTERM. Only Postgres listens on loopback: the other ports have their own listener there."""
    servers = [await asyncio.start_server(tcp(port), address, port) for address in bridge for port in ports]
    if database is not None:
        servers += [await asyncio.start_server(database[1], address, database[0]) for address in ["127.0.0.1", *bridge]]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    for server in servers:
        server.close()


def main() -> None:
    """Exit by SIGTERM; an address that cannot be listened on ends it with that error."""
    parser = argparse.ArgumentParser(prog="python -m local.relay", description=__doc__)
    parser.add_argument("--bridge", action="append", default=[], help="address to listen on beside loopback")
    parser.add_argument("--port", type=int, action="append", default=[], help="port of loopback, relayed to the bridge")
    parser.add_argument("--postgres-port", type=int, help="port for Postgres")
    parser.add_argument("--postgres-socket", help="Unix socket of Postgres; its password is in RELAY_PASSWORD")
    given = parser.parse_args()
    database = None
    if given.postgres_port is not None:
        database = (given.postgres_port, postgres(given.postgres_socket, os.environ["RELAY_PASSWORD"]))
    asyncio.run(run(given.bridge, given.port, database))


if __name__ == "__main__":
    main()
