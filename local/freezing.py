"""A container between two invocations: Lambda freezes it, time passes, and its connections die without a word."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator

from backfill.github.transport import Transport
from backfill.store.connection import Database


class Container:
    """The connections that a container keeps. ``cut`` says how many have died so far."""

    def __init__(self, db: Database, transport: Transport) -> None:
        self._db, self._transport = db, transport
        self._ahead = 0.0
        self._others: list[socket.socket] = []
        # Both look at the wall clock, because the monotonic one may stand still meanwhile.
        db._clock, transport._clock = self._later(db._clock), self._later(transport._clock)

    @property
    def cut(self) -> int:
        return len(self._others) // 2

    def freeze(self, seconds: float, *, database: bool = True, github: bool = True) -> None:
        """So long nothing runs, and a gateway on the way forgets the connections."""
        self._ahead += seconds
        if database and self._db._connection is not None:
            self._cut(self._db._connection._usock)
        if github:
            for each in self._idle():
                self._cut(each)

    def close(self) -> None:
        """Close the connections to the other sides."""
        while self._others:
            self._others.pop().close()

    def _later(self, clock: Callable[[], float]) -> Callable[[], float]:
        return lambda: clock() + self._ahead

    def _idle(self) -> Iterator[socket.socket]:
        for adapter in self._transport._session.adapters.values():
            pools = adapter.poolmanager.pools  # type: ignore[attr-defined] # of requests' HTTPAdapter
            for key in pools.keys():  # noqa: SIM118 - it does not iterate
                for connection in list(pools[key].pool.queue):
                    if connection is not None and connection.sock is not None:
                        yield connection.sock

    def _cut(self, connection: socket.socket) -> None:
        """From now on nothing answers and neither side sees an end; written bytes are dropped."""
        mine, silent = socket.socketpair()
        mine.setblocking(False)
        self._others += [socket.socket(fileno=os.dup(connection.fileno())), silent]
        os.dup2(mine.fileno(), connection.fileno())
        mine.close()
