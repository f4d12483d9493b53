"""pg8000's connection with one round trip for several statements, and what its values and errors need."""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pg8000.native
from pg8000 import core
from pg8000.exceptions import InterfaceError

# JSON accepts these characters, text of Postgres does not: NUL, and halves of surrogate pairs.
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


class Connection(pg8000.native.Connection):  # type: ignore[misc] # pg8000 has no types
    """pg8000's connection, with one round trip where its own ``run`` waits three times (Parse, Describe, Execute).

    All statements are between one pair of Syncs, as poolers need. Between two pairs a pooler may change the server, which does not have
    the parsed statement.
    """

    def pipeline(self, statements: Sequence[tuple[str, Mapping[str, Any]]]) -> list[core.Context]:
        """Parse, Bind, Describe and Execute each statement, one Sync, one flush; then read all replies.

        All values are encoded before the first one is written. Otherwise a value that cannot be encoded would leave the statements before
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
        try:
            while code != core.READY_FOR_QUERY:
                code, length = core.ci_unpack(core._read(self._sock, 5))
                self.message_types[code](core._read(self._sock, length - 4), context)
                if code in (core.COMMAND_COMPLETE, core.EMPTY_QUERY_RESPONSE):
                    context = next(waiting, context)
        except InterfaceError as error:
            # A server that ends a connection says why before it closes it.
            if context.error is not None and is_fatal(context.error.args[0]):
                raise context.error from error
            raise
        for each in contexts:
            if each.error is not None:
                raise each.error


def is_fatal(report: Mapping[str, str]) -> bool:
    """Whether the server closes the connection after this report: https://www.postgresql.org/docs/current/protocol-error-fields.html"""
    return report.get("V") in ("FATAL", "PANIC")


def has_news(connection: Connection) -> bool:
    """The server closed the connection while the container was frozen. It sends nothing else without a request."""
    return bool(select.select([connection._usock], [], [], 0)[0])


def as_text(text: str) -> str:
    """The text without characters that Postgres does not take, whether it comes from a message, an error or a person."""
    return text if text.isascii() and "\x00" not in text else _NO_TEXT.sub("", text)


@cache
def _prepared(sql: str) -> tuple[str, Callable[[Mapping[str, Any]], Sequence[Any]]]:
    """The SQL with ``$1`` for ``:name``, and a function that puts parameters in that order. Cached: pg8000 reads the text by letters."""
    prepared: tuple[str, Callable[[Mapping[str, Any]], Sequence[Any]]] = pg8000.native.to_statement(sql)
    return prepared


def os_error(error: BaseException) -> OSError | None:
    """The error of the operating system that an error of pg8000's comes from."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    return found
