"""One Postgres connection per container: opened at its first use, and again when it broke."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pg8000 import core
from pg8000.exceptions import DatabaseError, InterfaceError

from backfill.error_codes import ErrorCode
from backfill.errors import DatabaseUnavailable, Retryable
from backfill.store.address import LoginRefused, connect
from backfill.store.driver import Connection, has_news, is_fatal, os_error

# No statement of the product comes near this. The server ends one that does. It also ends an idle transaction: a frozen or killed
# function leaves its connection open, and its locks would stay.
STATEMENT_SECONDS = 60
# The client gives up a little later, because the server's answer says more.
_SILENCE_SECONDS = STATEMENT_SECONDS + 15
# LOCAL, because a transaction pooler gives the next transaction to another client.
# READ COMMITTED whatever the role's default is: the guards of the statements need it. A stricter level would end a worker's
# transaction whenever another one commits.
_BEGIN = f"""
    BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s';
    SET LOCAL idle_in_transaction_session_timeout = '{STATEMENT_SECONDS}s'
"""
# The same for a statement outside a transaction. Both travel in one round trip and run as one transaction, which ends the setting.
# Without it, the backend of a client that gave up would wait for a lock, and its statement would take effect later.
_LIMIT = "SELECT set_config('statement_timeout', :limit, true)"
# The isolation level of that transaction, with which it ends. LOCAL would warn in the server's log.
_ISOLATION = "SET transaction_isolation = 'read committed'"
# Lambda freezes a container between invocations. NAT gateways drop a connection that is idle for 350 seconds and tell neither side.
# A new connection is cheap, waiting on a dead one is not. https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
MOST_IDLE_SECONDS = 60
# After a failover the name leads to the old primary until its DNS record expires: 5 seconds on RDS, 30 with some resolvers.
FAILOVER_SECONDS = 20
FAILOVER_STEP_SECONDS = 1
# pg_type's own number for uuid.
UUID_OID = 2950
Row = dict[str, Any]

# SQLSTATE classes after which the same statement may succeed: connection, rollback (deadlock, serialization),
# resources, operator intervention, and system errors. https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT = ("08", "40", "53", "57", "58")
# This session is useless and another one may work: read_only_sql_transaction (the server became a standby), lock_not_available.
# So is one that a fatal report ends, as idle_in_transaction_session_timeout (25P03) does.
_READ_ONLY = "25006"
_LEAVE = (_READ_ONLY, "55P03")
# The values are refused: data exceptions, constraints, limits of Postgres (an index entry that is too long).
_REFUSING = ("22", "23", "54")
# Fields that are kept of such a report: severity, code, message, and the names of schema, table, column, type and constraint.
_TOLD = ("S", "V", "C", "M", "s", "t", "c", "d", "n")


class RowsRefused(Retryable, DatabaseError):  # type: ignore[misc] # pg8000 has no types
    """Postgres does not take these values: text that is not text, a number too large, a key that is not there.

    ``args[0]`` holds the fields of Postgres' report, as in pg8000's own error.
    """

    code = ErrorCode.VALUE_REFUSED

    def __str__(self) -> str:
        return f"Postgres: {self.args[0].get('M')} ({self.args[0].get('C')})"


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
        self._connection: Connection | None = None
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
            # Still inside the transaction: a connection that broke is not opened again to commit nothing.
            with self._usable() as connection:
                connection.run("COMMIT")
            self._depth = 0
        except BaseException:
            self._depth = 0
            self._roll_back()
            raise

    def save(self) -> list[tuple[str, dict[str, Any]]]:
        """The first statement of a pipeline that ``undo`` can take back, in the same round trip."""
        return [("SAVEPOINT saved", {})] if self._depth else []

    def undo(self) -> None:
        """After an error: back to the last ``save``, so that the transaction goes on. Outside a transaction nothing was stored."""
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
            with suppress(InterfaceError, OSError):  # it may be broken already
                connection.close()

    def _run(
        self, connection: Connection, statements: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Sequence[core.Context]:
        """Run statements in one round trip. Inside a transaction, its limits hold."""
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

    def _open(self) -> Connection:
        try:
            connection = connect(Connection, self._url())
        except LoginRefused:
            if self._on_refused is None:
                raise
            self._on_refused()
            connection = connect(Connection, self._url())
        connection._usock.settimeout(_SILENCE_SECONDS)
        # Ids travel as text: in messages, in logs, and back into SQL.
        connection.register_in_adapter(UUID_OID, str)
        return connection

    def _open_primary(self) -> Connection:
        """A connection that takes writes. It waits until the name leads to the new primary: a container that fails at once would take
        more messages than those that work."""
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

    def _is_worn_out(self, connection: Connection) -> bool:
        """It was idle for long, by a clock that may have been set, or the server has closed it."""
        return not 0 <= self._clock() - self._last_used <= MOST_IDLE_SECONDS or has_news(connection)

    @contextmanager
    def _usable(self) -> Iterator[Connection]:
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
            if is_fatal(details) or (code in _LEAVE and not (code == _READ_ONLY and self._is_reading)):
                self._met_standby = code == _READ_ONLY
                self.close()
                raise DatabaseUnavailable(f"Postgres: {details.get('M', error)} ({code})") from error
            if code.startswith(_TRANSIENT):
                if code.startswith(("08", "57P")):
                    self.close()
                raise DatabaseUnavailable(f"Postgres: {details.get('M', error)} ({code})") from error
            if code.startswith(_REFUSING):
                # Without its cause. The report has a line "Failing row contains …", which is a pull request's text.
                raise RowsRefused({name: value for name, value in details.items() if name in _TOLD}) from None
            raise
        except (InterfaceError, OSError) as error:
            self.close()
            said = os_error(error) or error
            raise DatabaseUnavailable(f"the connection to Postgres broke: {said}") from error
        finally:
            self._last_used = self._clock()


def _dictionaries(context: core.Context) -> list[Row]:
    names = [column["name"] for column in context.columns or []]
    return [dict(zip(names, row, strict=True)) for row in context.rows or []]
