"""Outages of Postgres: a frozen container, a failover, a held lock, a database that wakes up, a failing network."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

import pg8000.native
import pytest

from backfill.errors import DatabaseUnavailable
from backfill.store import address, connection
from backfill.store.address import LoginRefused, connect_patiently
from backfill.store.connection import Database
from local.postgres import Postgres
from local.servers import NotHere, PgBouncer
from local.stack import free_port
from migrations.runner import upgrade


class Network:
    """TCP to Postgres' Unix socket. After ``forget`` it drops what earlier connections send, and tells neither side, as NAT."""

    def __init__(self, database_url: str, port: int = 0) -> None:
        self._path = address.connection_options(database_url)["unix_sock"]
        self._listener = socket.create_server(("127.0.0.1", port))
        self._forgotten: list[threading.Event] = []
        self._ends: list[socket.socket] = []
        self.url = f"postgresql://postgres@127.0.0.1:{self._listener.getsockname()[1]}{urlsplit(database_url).path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        for each in self._forgotten:
            each.set()

    def close(self) -> None:
        for each in (self._listener, *self._ends):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._path)
            lost = threading.Event()
            self._forgotten.append(lost)
            self._ends += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, target, lost), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not lost.is_set():
                    target.sendall(data)
            if not lost.is_set():
                target.shutdown(socket.SHUT_WR)


@pytest.fixture
def network(direct_url: str) -> Iterator[Network]:
    running = Network(direct_url)
    yield running
    running.close()


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def backend(database: Database) -> int:
    found = database.one("SELECT pg_backend_pid() AS pid")
    assert found is not None
    return int(found["pid"])


def test_a_container_that_was_frozen_leaves_its_dead_connection(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SILENCE_SECONDS", 5)
    clock = Clock()
    database = Database(lambda: network.url, clock=clock)
    first = backend(database)
    clock.seconds += connection.MOST_IDLE_SECONDS
    assert backend(database) == first
    network.forget()
    # Heartbeats come every half hour.
    clock.seconds += 1800
    began = time.monotonic()
    with database.transaction():
        assert backend(database) != first
    assert time.monotonic() - began < 2
    database.close()


def test_a_clock_that_was_put_back_says_nothing_about_idleness(direct_url: str) -> None:
    clock = Clock()
    database = Database(lambda: direct_url, clock=clock)
    first = backend(database)
    clock.seconds -= 3600
    assert backend(database) != first
    database.close()


@pytest.fixture(params=["direct", "through a transaction pooler"])
def limited(request: pytest.FixtureRequest, postgres: Postgres, direct_url: str) -> Iterator[str]:
    """The address of a database, by either way."""
    if request.param == "direct":
        yield direct_url
        return
    try:
        pooler = PgBouncer(postgres.url("postgres"))
    except NotHere as error:
        pytest.skip(f"NOT TESTED, limits through PgBouncer: {error}")
    yield pooler.url(direct_url)
    pooler.stop()


def test_a_single_statement_that_waits_for_a_lock_is_ended_by_the_server(
    limited: str, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client may have given up: it must not take effect when the lock is free at last."""
    holder, waiting = Database(lambda: direct_url), Database(lambda: limited)
    assert waiting.one("SHOW statement_timeout") == {"statement_timeout": f"{connection.STATEMENT_SECONDS // 60}min"}
    monkeypatch.setattr(connection, "STATEMENT_SECONDS", 0.3)
    holder.execute("INSERT INTO github_budget (identity) VALUES ('i')")
    claim = "UPDATE github_budget SET block_reason = 'claimed' WHERE identity = 'i'"
    with holder.transaction():
        holder.one("SELECT 1 AS held FROM github_budget WHERE identity = 'i' FOR UPDATE")
        with pytest.raises(DatabaseUnavailable, match="57014"):
            waiting.execute(claim)
        assert holder.rows("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == []
    assert holder.one("SELECT block_reason FROM github_budget") == {"block_reason": None}
    # Nothing of it stays: the next one who gets this session from a pooler has the server's own setting.
    assert waiting.execute(claim) == 1
    plain = pg8000.native.Connection(**address.connection_options(limited))
    assert plain.run("SHOW statement_timeout") == [["0"]]
    for each in (holder, waiting, plain):
        each.close()


@pytest.fixture
def failover(postgres: Postgres, database_url: str) -> Iterator[Callable[[str], None]]:
    """Makes new sessions of the database read-only ("on"), as a standby's are, or not ("off")."""
    name = urlsplit(database_url).path[1:]

    def switch(mode: str) -> None:
        postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = {mode}")

    yield switch
    switch("off")


WRITE = "INSERT INTO github_budget (identity) VALUES ('i') ON CONFLICT DO NOTHING"


def test_after_a_failover_a_container_waits_for_the_new_primary(
    direct_url: str, failover: Callable[[str], None]
) -> None:
    """To fail at once again and again would take the messages from containers that work."""
    failover("on")
    warm = Database(lambda: direct_url)
    with pytest.raises(DatabaseUnavailable, match="25006"):
        warm.execute(WRITE)
    later = threading.Timer(1.5, failover, ["off"])
    later.start()
    assert warm.execute(WRITE) == 1
    later.join()
    warm.close()


def test_one_container_on_the_old_primary_does_not_take_the_messages_of_the_others(
    direct_url: str, failover: Callable[[str], None]
) -> None:
    """Failing is faster than working."""
    failover("on")
    containers = [Database(lambda: direct_url)]
    backend(containers[0])
    failover("off")
    containers += [Database(lambda: direct_url) for _ in range(3)]
    messages: SimpleQueue[int] = SimpleQueue()
    for number in range(40):
        messages.put(number)
    failed: list[int] = []

    def run(container: Database) -> None:
        with suppress(Empty):
            while True:
                number = messages.get_nowait()
                try:
                    with container.transaction():
                        container.execute(WRITE)
                        time.sleep(0.02)
                except DatabaseUnavailable:
                    failed.append(number)

    threads = [threading.Thread(target=run, args=(each,)) for each in containers]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(failed) == 1
    for container in containers:
        container.close()


def test_an_address_that_leads_to_a_standby_for_long_is_told(
    direct_url: str, failover: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FAILOVER_SECONDS", 1)
    failover("on")
    warm = Database(lambda: direct_url)
    for told in ("25006", "takes no writes.*writer endpoint", "takes no writes"):
        with pytest.raises(DatabaseUnavailable, match=told):
            warm.execute(WRITE)
    failover("off")
    assert warm.execute(WRITE) == 1
    warm.close()


def test_a_transaction_that_idled_too_long_is_told_and_the_next_one_works(direct_url: str) -> None:
    database = Database(lambda: direct_url)
    first = backend(database)
    with pytest.raises(DatabaseUnavailable), database.transaction():
        database.execute("SET LOCAL idle_in_transaction_session_timeout = '100ms'")
        time.sleep(0.5)
        database.one("SELECT 1 AS late")
    assert backend(database) != first
    database.close()


def test_by_tcp_the_server_says_that_a_transaction_idled_too_long(network: Network) -> None:
    """By a Unix socket the client cannot write, and does not read why."""
    database = Database(lambda: network.url)
    first = backend(database)
    with pytest.raises(DatabaseUnavailable, match="25P03"), database.transaction():
        database.execute("SET LOCAL idle_in_transaction_session_timeout = '100ms'")
        time.sleep(0.5)
        database.one("SELECT 1 AS late")
    assert backend(database) != first
    database.close()


def test_a_lock_that_cannot_be_had_is_left_with_its_connection(connect: Callable[[], Database]) -> None:
    holder, waiting = connect(), connect()
    with holder.transaction():
        holder.execute("LOCK TABLE github_budget")
        with pytest.raises(DatabaseUnavailable, match="55P03"), waiting.transaction():
            waiting.execute("SET LOCAL lock_timeout = '100ms'")
            waiting.execute(WRITE)
    assert waiting.execute(WRITE) == 1


@pytest.mark.parametrize(
    ("place", "cause"),
    [
        ("nowhere.invalid:5432", r"nowhere\.invalid:5432: DNS gives no address"),
        ("127.0.0.1:{free}", "connection refused"),
        ("127.0.0.1:{silent}", r"no answer within 1 seconds \(timed out\).*security group"),
        # The kernel has no TCP to it, on any machine; a function without IPv6 gets the same error for an IPv6 address.
        ("255.255.255.255:5432", r"unreachable \(Network is unreachable\).*IPv6"),
    ],
    ids=["DNS", "refused", "timed out", "unreachable"],
)
def test_the_cause_is_told(place: str, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = place.format(free=free_port(), silent=silent.getsockname()[1])
        with pytest.raises(DatabaseUnavailable, match=f"cannot reach Postgres at .*{cause}"):
            Database(lambda: f"postgresql://u:secret@{where}/d").one("SELECT 1 AS one")


def test_the_migrator_waits_for_a_database_that_wakes_up(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "WAKE_STEP_SECONDS", 0.1)
    port = free_port()
    started: list[Network] = []
    threading.Timer(0.5, lambda: started.append(Network(direct_url, port))).start()
    url = f"postgresql://postgres@127.0.0.1:{port}{urlsplit(direct_url).path}"
    with pytest.raises(DatabaseUnavailable, match="connection refused"):
        upgrade(url)
    assert upgrade(url, wake_seconds=10) == []
    for each in started:
        each.close()


def test_a_login_that_is_refused_is_not_waited_for(direct_url: str) -> None:
    parts = urlsplit(direct_url)
    began = time.monotonic()
    with pytest.raises(LoginRefused, match="does not exist"):
        connect_patiently(pg8000.native.Connection, f"postgresql://postgres@/missing?{parts.query}", 30)
    assert time.monotonic() - began < 2


def test_a_connection_that_dies_in_a_statement_says_how(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SILENCE_SECONDS", 0.5)
    database = Database(lambda: network.url)
    backend(database)
    network.forget()
    with pytest.raises(DatabaseUnavailable, match="the connection to Postgres broke: timed out"):
        database.one("SELECT 1 AS one")
    assert backend(database)
    database.close()
