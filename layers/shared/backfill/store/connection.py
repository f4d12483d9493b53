"""One Postgres connection per container: opened when first used, opened anew when it broke, verified by TLS."""

from __future__ import annotations

import errno
import ipaddress
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pg8000.native
from pg8000 import core
from pg8000.exceptions import DatabaseError, InterfaceError

from backfill import trust
from backfill.error_codes import ErrorCode
from backfill.errors import DatabaseUnavailable, Misconfigured, Retryable

# Aurora Serverless takes about 15 seconds to resume from 0 ACU, and accepts no connection meanwhile:
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2-auto-pause.html
CONNECT_SECONDS = 20
# No statement of the product comes near this; one that does is stuck. The server ends it and, because a frozen or killed
# function leaves its connection open, ends an idle transaction too, which would hold its locks for ever.
STATEMENT_SECONDS = 60
# The connection itself is given up a little later: the server's own answer says more.
_SILENCE_SECONDS = STATEMENT_SECONDS + 15
# For this transaction alone, because a transaction pooler gives the next one to somebody else.
# READ COMMITTED whatever the role's default is: the guards of the statements are written for it, and a stricter level
# would end a worker's transaction whenever another one commits.
_BEGIN = f"""
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s';
    SET LOCAL idle_in_transaction_session_timeout = '{STATEMENT_SECONDS}s'
"""
# The same for a statement outside a transaction. It travels in the statement's own round trip, and Postgres runs both as one
# transaction, at whose end the setting is gone. A client that gave up would leave a backend that waits for a lock, and
# whose statement takes effect when nobody expects it any more.
_LIMIT = "SELECT set_config('statement_timeout', :limit, true)"
# The isolation level of that transaction. Without LOCAL, which would warn in the server's log; it ends with the transaction.
_ISOLATION = "SET transaction_isolation = 'read committed'"
# What JSON takes and text of Postgres does not: NUL, and halves of surrogate pairs.
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
# Lambda freezes a container between invocations, and NAT gateways drop a connection that is idle for 350 seconds, without a
# word to either side. Opening one is cheap; to wait on a dead one is not. https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
MOST_IDLE_SECONDS = 60
# After a failover the name leads to the old primary until its DNS record expires (5 seconds, RDS; 30 with some resolvers).
FAILOVER_SECONDS = 20
FAILOVER_STEP_SECONDS = 1
# Between two tries to reach a database that is being woken up.
WAKE_STEP_SECONDS = 2
# Certificates of authorities that the system does not know, as of RDS or Supabase: put their .pem or .crt files there.
CERTIFICATES = trust.FOLDER
# This machine by name; host.docker.internal is what a container calls it.
_LOOPBACK = ("localhost", "host.docker.internal")
# pg_type's own number for uuid.
UUID_OID = 2950
Row = dict[str, Any]

# SQLSTATE classes after which the same statement may succeed: connection, rollback (deadlock, serialization),
# resources, operator intervention, and system errors. https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT = ("08", "40", "53", "57", "58")
# The session is of no more use, and another one may be: read_only_sql_transaction (the server has become a standby),
# idle_in_transaction_session_timeout (Postgres ends the session), lock_not_available.
_READ_ONLY = "25006"
_LEAVE = (_READ_ONLY, "25P03", "55P03")
# The values are the trouble: data exceptions, constraints, limits of the program (an index entry that is too long).
_REFUSING = ("22", "23", "54")
# What is kept of such a report: severity, code, message, and the names of schema, table, column, type and constraint.
_TOLD = ("S", "V", "C", "M", "s", "t", "c", "d", "n")
# Of a URL. What is not understood is refused: an option that is ignored is a promise that nobody keeps.
_SSL_MODES = ("", "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_CHANNEL_BINDINGS = ("", "prefer", "require")
_OPTIONS = ("host", "sslmode", "sslrootcert", "channel_binding")


class RowsRefused(Retryable, DatabaseError):  # type: ignore[misc] # pg8000 has no types
    """Postgres does not take these values: text that is no text, a number too large, a key that is not there.

    ``args[0]`` holds the fields of Postgres' report, as in pg8000's own error.
    """

    code = ErrorCode.VALUE_REFUSED

    def __str__(self) -> str:
        return f"Postgres: {self.args[0].get('M')} ({self.args[0].get('C')})"


class LoginRefused(DatabaseUnavailable):
    """Postgres, or a pooler before it, does not take this user, password, token or database."""


class Untrusted(DatabaseUnavailable):
    """The server's certificate is not one that this function trusts for this host name."""


class Database:
    """A connection that runs named-parameter SQL (``:name``) and returns rows as dictionaries.

    ``url`` is called when a connection is opened. If Postgres refuses the login, ``on_refused`` is called, and then
    ``url`` once more: the secret may have been rotated. ``clock`` gives seconds; a connection that was idle for
    MOST_IDLE_SECONDS by it is opened anew.
    """

    def __init__(
        self,
        url: Callable[[], str],
        on_refused: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._on_refused = on_refused
        # Not the monotonic one, which may stand still while the container is frozen.
        self._clock = clock
        self._last_used = 0.0
        self._connection: _Connection | None = None
        self._depth = 0
        self._is_reading = False
        self._met_standby = False

    def rows(self, sql: str, **parameters: Any) -> list[Row]:
        """Run one statement; every returned row as ``{column: value}``."""
        return self.pipeline([(sql, parameters)])[0]

    def one(self, sql: str, **parameters: Any) -> Row | None:
        """The first row, or None."""
        found = self.rows(sql, **parameters)
        return found[0] if found else None

    def only(self, sql: str, **parameters: Any) -> Row:
        """The row of a statement that always gives one."""
        return self.rows(sql, **parameters)[0]

    def execute(self, sql: str, **parameters: Any) -> int:
        """Run one statement for its effect; the number of rows that it touched."""
        with self._usable() as connection:
            return int(self._run(connection, [(sql, parameters)])[0].row_count)

    def pipeline(self, statements: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[Row]]:
        """Run several statements in one round trip, each seeing what the ones before it did; the rows of each.

        The first error ends it and is raised; outside a transaction nothing of it stays. For statements that answer
        little: all of them are written before the first reply is read.
        """
        with self._usable() as connection:
            return [_dictionaries(context) for context in self._run(connection, statements)]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction, committed at the end of the block and rolled back by any exception. No nesting."""
        if self._depth:
            raise RuntimeError("transactions do not nest")
        with self._usable() as connection:
            connection.run(_BEGIN)
        self._depth = 1
        try:
            yield
            # Still inside: a connection that broke meanwhile is not opened anew for a COMMIT of nothing.
            with self._usable() as connection:
                connection.run("COMMIT")
            self._depth = 0
        except BaseException:
            self._depth = 0
            self._roll_back()
            raise

    def save(self) -> list[tuple[str, dict[str, Any]]]:
        """What begins a pipeline that ``undo`` can take back, in the same round trip."""
        return [("SAVEPOINT saved", {})] if self._depth else []

    def undo(self) -> None:
        """After an error: back to the last ``save``, so that the transaction goes on. Outside of one nothing is left."""
        if self._depth:
            self.pipeline([("ROLLBACK TO SAVEPOINT saved", {})])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A transaction in which Postgres refuses every write."""
        with self.transaction():
            self.execute("SET TRANSACTION READ ONLY")
            self._is_reading = True
            try:
                yield
            finally:
                self._is_reading = False

    def close(self) -> None:
        """Close the connection; the next statement opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(InterfaceError, OSError):  # it may be broken, which is why it is closed
                connection.close()

    def _run(
        self, connection: _Connection, statements: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Sequence[core.Context]:
        """What each statement came to. Inside a transaction, that one's limits hold."""
        if self._depth:
            return connection.pipeline(statements)
        settings = [(_ISOLATION, {}), (_LIMIT, {"limit": f"{STATEMENT_SECONDS}s"})]
        return connection.pipeline([*settings, *statements])[len(settings) :]

    def _roll_back(self) -> None:
        if self._connection is not None:
            try:
                self._connection.run("ROLLBACK")
            except (DatabaseError, InterfaceError, OSError):
                self.close()

    def _open(self) -> _Connection:
        try:
            connection = connect(_Connection, self._url())
        except LoginRefused:
            if self._on_refused is None:
                raise
            self._on_refused()
            connection = connect(_Connection, self._url())
        connection._usock.settimeout(_SILENCE_SECONDS)
        # Ids travel as text: in messages, in logs, and back into SQL.
        connection.register_in_adapter(UUID_OID, str)
        return connection

    def _open_primary(self) -> _Connection:
        """A connection that takes writes. A container that fails at once takes messages faster than those that work, so
        this one waits until the name leads to the new primary."""
        deadline = time.monotonic() + FAILOVER_SECONDS
        while True:
            connection = self._open()
            if connection.run("SHOW transaction_read_only") == [["off"]]:
                self._met_standby = False
                return connection
            connection.close()
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"Postgres takes no writes: its address has led to a standby for {FAILOVER_SECONDS} seconds. "
                    "Give the secret the address of the primary (of a cluster: the writer endpoint)"
                )
            time.sleep(FAILOVER_STEP_SECONDS)

    def _is_worn_out(self, connection: _Connection) -> bool:
        """It was idle for long, by a clock that may have been set; or the server has closed it."""
        return not 0 <= self._clock() - self._last_used <= MOST_IDLE_SECONDS or _has_news(connection)

    @contextmanager
    def _usable(self) -> Iterator[_Connection]:
        if self._connection is not None and not self._depth and self._is_worn_out(self._connection):
            self.close()
        if self._connection is None and self._depth:
            raise DatabaseUnavailable("the connection was lost inside a transaction")
        try:
            if self._connection is None:
                self._connection = self._open_primary() if self._met_standby else self._open()
            yield self._connection
        except DatabaseError as error:
            details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
            code = str(details.get("C", ""))
            if code in _LEAVE and not (code == _READ_ONLY and self._is_reading):
                self._met_standby = code == _READ_ONLY
                self.close()
                raise DatabaseUnavailable(f"Postgres: {details.get('M', error)} ({code})") from error
            if code.startswith(_TRANSIENT):
                if code.startswith(("08", "57P")):
                    self.close()
                raise DatabaseUnavailable(f"Postgres: {details.get('M', error)} ({code})") from error
            if code.startswith(_REFUSING):
                # Without its cause: the report has a line "Failing row contains …", which is a pull request's text.
                raise RowsRefused({name: value for name, value in details.items() if name in _TOLD}) from None
            raise
        except (InterfaceError, OSError) as error:
            self.close()
            said = _os_error(error) or error
            raise DatabaseUnavailable(f"the connection to Postgres broke: {said}") from error
        finally:
            self._last_used = self._clock()


class _Connection(pg8000.native.Connection):  # type: ignore[misc] # pg8000 has no types
    """pg8000's connection, with one round trip where its own ``run`` waits three times (Parse, Describe, Execute).

    It also keeps each statement between one pair of Syncs, as poolers need: between two they may change the server,
    and the parsed statement would not be there.
    """

    def pipeline(self, statements: Sequence[tuple[str, Mapping[str, Any]]]) -> list[core.Context]:
        """Parse, Bind, Describe and Execute each statement, one Sync, one flush; then read all replies.

        Everything is encoded before anything is written: a value that cannot be encoded would leave the statements before
        it in the buffer, and the next Sync would commit them.
        """
        encoded = []
        for sql, parameters in statements:
            text, values = _prepared(sql)
            parse = core.NULL_BYTE + text.encode(self._client_encoding) + core.NULL_BYTE + core.H_pack(0)
            given = core.make_params(self.py_types, values(parameters))
            bound = [as_text(value) if isinstance(value, str) else value for value in given]
            for value in bound:
                if value is not None and not value.isascii():
                    value.encode(self._client_encoding)
            encoded.append((text, parse, bound))
        contexts = []
        for text, parse, bound in encoded:
            contexts.append(core.Context(text))
            self._send_message(core.PARSE, parse)
            self.send_BIND(core.NULL_BYTE, bound)
            self._send_message(core.DESCRIBE, core.PORTAL + core.NULL_BYTE)
            self.send_EXECUTE()
        core._write(self._sock, core.SYNC_MSG)
        core._flush(self._sock)
        self._receive(contexts)
        return contexts

    def _receive(self, contexts: Sequence[core.Context]) -> None:
        """Replies up to the Sync's own; each statement's end with CommandComplete. Raises the first error."""
        waiting = iter(contexts)
        context, code = next(waiting), b""
        while code != core.READY_FOR_QUERY:
            code, length = core.ci_unpack(core._read(self._sock, 5))
            self.message_types[code](core._read(self._sock, length - 4), context)
            if code in (core.COMMAND_COMPLETE, core.EMPTY_QUERY_RESPONSE):
                context = next(waiting, context)
        for each in contexts:
            if each.error is not None:
                raise each.error


def _has_news(connection: _Connection) -> bool:
    """Nothing comes unasked, but for the end of the connection: Postgres was restarted while the container slept."""
    return bool(select.select([connection._usock], [], [], 0)[0])


def as_text(text: str) -> str:
    """The text without what Postgres does not take, wherever it came from: a message, an error, a person."""
    return text if text.isascii() and "\x00" not in text else _NO_TEXT.sub("", text)


@cache
def _prepared(sql: str) -> tuple[str, Callable[[Mapping[str, Any]], Sequence[Any]]]:
    """``:name`` as ``$1``, and what puts parameters in that order: pg8000 walks the text letter by letter for it."""
    prepared: tuple[str, Callable[[Mapping[str, Any]], Sequence[Any]]] = pg8000.native.to_statement(sql)
    return prepared


def _dictionaries(context: core.Context) -> list[Row]:
    names = [column["name"] for column in context.columns or []]
    return [dict(zip(names, row, strict=True)) for row in context.rows or []]


def connection_options(url: str) -> dict[str, Any]:
    """What pg8000 needs to connect to a ``postgresql://`` URL. A Unix socket is ``?host=/directory``, or the directory in the
    host's place with ``%2F`` for each slash, as libpq takes it.

    Raises Misconfigured for anything else, for an option that is not understood, and for a URL that asks for plaintext to
    another machine.
    """
    try:
        parts = urlsplit(url)
        port, host_in_place = parts.port or 5432, _host_in_place(parts)
    except ValueError:
        parts, port, host_in_place = urlsplit(""), 0, None
    if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/") or parts.fragment:
        raise Misconfigured(
            "DATABASE_URL",
            "must be postgresql://user:password@host:port/database, with each of :/?#[]@% in user and password "
            "percent-encoded",
        )
    options = _url_options(parts.query)
    host = options.get("host") or host_in_place or "localhost"
    return {
        "user": unquote(parts.username or "postgres"),
        "password": unquote(parts.password) if parts.password else None,
        "host": host,
        "port": port,
        "unix_sock": f"{host}/.s.PGSQL.{port}" if host.startswith("/") else None,
        "database": unquote(parts.path.lstrip("/")),
        "ssl_context": _tls(host, options),
        "timeout": CONNECT_SECONDS,
        "tcp_keepalive": True,
        "application_name": "progressive-backfill",
    }


def _host_in_place(parts: SplitResult) -> str | None:
    """The host of the URL. A directory keeps its capitals, which urllib takes from every other host."""
    place = parts.netloc.rpartition("@")[2]
    return unquote(place.partition(":")[0]) if place[:3].upper() == "%2F" else parts.hostname


def _url_options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise Misconfigured(
                "DATABASE_URL", f"the option {name!r} is not understood: remove it. Understood: {', '.join(_OPTIONS)}"
            )
    for name, known in (("sslmode", _SSL_MODES), ("channel_binding", _CHANNEL_BINDINGS)):
        if options.get(name, "") not in known:
            raise Misconfigured("DATABASE_URL", f"{name} must be one of {', '.join(known[1:])}")
    return options


Opened = TypeVar("Opened", bound=core.CoreConnection)


def connect(driver: Callable[..., Opened], url: str) -> Opened:
    """Open a connection by one of pg8000's interfaces. Raises DatabaseUnavailable that says what to check."""
    options = connection_options(url)
    place = f"{options['host']}:{options['port']}"
    try:
        connection = driver(**options)
    except (DatabaseError, InterfaceError, OSError) as error:
        raise _refusal(error, place) from error
    if _url_options(urlsplit(url).query).get("channel_binding") == "require" and not _is_bound(connection):
        connection.close()
        raise Untrusted(f"Postgres at {place} offers no channel binding, which the URL requires (channel_binding)")
    return connection


def connect_patiently(driver: Callable[..., Opened], url: str, seconds: float) -> Opened:
    """As ``connect``, but a database that does not answer yet is tried again for so long: it may be waking up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(driver, url)
        except (LoginRefused, Untrusted):
            raise
        except DatabaseUnavailable:
            if time.monotonic() + WAKE_STEP_SECONDS > deadline:
                raise
            time.sleep(WAKE_STEP_SECONDS)


def _is_bound(connection: core.CoreConnection) -> bool:
    """Whether the login was tied to this TLS session (SCRAM-SHA-256-PLUS)."""
    login = getattr(connection, "auth", None)
    return login is not None and str(login.mechanism_name).endswith("-PLUS")


def _refusal(error: Exception, place: str) -> DatabaseUnavailable:
    """Why there is no connection, and what to check."""
    refusal: BaseException | None = error
    # pg8000 says goodbye to a server that has refused and hung up, fails at that, and hides the refusal.
    while refusal is not None and not isinstance(refusal, DatabaseError | ssl.SSLError):
        refusal = refusal.__context__
    if isinstance(refusal, ssl.SSLError):
        return Untrusted(
            f"Postgres at {place} cannot be trusted: {refusal}. Put the certificate of its authority into "
            "layers/shared/backfill/certificates, and use the host name that its certificate is for"
        )
    if refusal is None:
        return DatabaseUnavailable(f"cannot reach Postgres at {place}: {_cause(error)}")
    details = refusal.args[0] if refusal.args and isinstance(refusal.args[0], dict) else {}
    # Full (53) or shutting down (57): no other password would help. All else may be the login, and poolers give no
    # code of their own for it.
    busy = str(details.get("C", "")).startswith(("53", "57"))
    return (DatabaseUnavailable if busy else LoginRefused)(
        f"Postgres at {place} refused the connection: {details.get('M', refusal)}. "
        "Check the user, the password and the database name in the secret"
    )


def _os_error(error: BaseException) -> OSError | None:
    """The error of the operating system that an error of pg8000's comes from."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    return found


def _cause(error: BaseException) -> str:
    """What the network said, which pg8000 keeps behind its own words, and what to do about it."""
    found = _os_error(error)
    if isinstance(found, socket.gaierror):
        return f"DNS gives no address for this name ({found.strerror}). Check the host in the secret"
    if isinstance(found, TimeoutError):
        return (
            f"no answer within {CONNECT_SECONDS} seconds (timed out). Check the database's security group, the subnets of "
            "the functions, and whether the database is stopped"
        )
    if isinstance(found, ConnectionRefusedError):
        return "connection refused. Nothing listens at this port: check the address, and the security group of a proxy"
    if found is not None and found.errno in _NO_WAY:
        return (
            f"unreachable ({found.strerror}). There is no route: a host with IPv6 addresses alone needs the IPv4 address of "
            "its pooler; else check the subnets of the functions"
        )
    return f"{found or error}. Check the address, the security group and the subnets of the functions"


# The errors of a network without a way to the address, IPv6 in a Lambda function without it among them.
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _tls(host: str, options: dict[str, str]) -> ssl.SSLContext | bool:
    """A context that verifies certificate and host name, whatever ``sslmode`` says; False, for plaintext, only where the
    bytes do not leave this machine."""
    mode = options.get("sslmode", "")
    if mode in ("", "disable") and _is_loopback(host):
        return False
    if mode == "disable":
        raise Misconfigured(
            "DATABASE_URL", f"sslmode=disable would send the password to {host} in plaintext: remove it"
        )
    root = options.get("sslrootcert", "system")
    try:
        if root != "system":
            return ssl.create_default_context(cafile=root)
        return trust.trusted(CERTIFICATES)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured("DATABASE_URL", f"the certificates cannot be read: {error}") from None


def _is_loopback(host: str) -> bool:
    if host.startswith("/") or host in _LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
