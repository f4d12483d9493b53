"""The address of Postgres: the options of its URL, the connection by TLS, and the reason if there is none."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pg8000 import core
from pg8000.exceptions import DatabaseError, InterfaceError

from backfill import trust
from backfill.errors import DatabaseUnavailable, Misconfigured
from backfill.store.driver import os_error

# Aurora Serverless takes about 15 seconds to resume from 0 ACU, and accepts no connection meanwhile:
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2-auto-pause.html
CONNECT_SECONDS = 20
# Between two tries to reach a database that wakes up.
WAKE_STEP_SECONDS = 2
# For certificates (.pem, .crt) of authorities that the system does not know, such as those of RDS and Supabase.
CERTIFICATES = trust.FOLDER
# This machine by name. A container calls it host.docker.internal.
_LOOPBACK = ("localhost", "host.docker.internal")
# Of a URL. An unknown option is refused, because ignoring it would break what it promises.
_SSL_MODES = ("", "disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_CHANNEL_BINDINGS = ("", "prefer", "require")
_OPTIONS = ("host", "sslmode", "sslrootcert", "channel_binding")


class LoginRefused(DatabaseUnavailable):
    """Postgres, or a pooler before it, does not take this user, password, token or database."""


class Untrusted(DatabaseUnavailable):
    """The server's certificate is not one that this function trusts for this host name."""


def connection_options(url: str) -> dict[str, Any]:
    """pg8000's options for a ``postgresql://`` URL. A Unix socket is ``?host=/directory``, or the directory in the
    host's place with ``%2F`` for each slash, as libpq takes it.

    Raises Misconfigured for another form, for an unknown option, and for a URL that asks for plaintext to
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
    """The host of the URL. urllib writes it in lower case, but a directory keeps its capitals."""
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
    """As ``connect``. A database that does not answer is tried again for so many ``seconds``, because it may be waking up."""
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
    # pg8000 writes to a server that has refused and closed the connection. That fails and hides the refusal.
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
    # Full (53) or shutting down (57): another password would not help. Everything else may be the login, because poolers have no code
    # for it.
    busy = str(details.get("C", "")).startswith(("53", "57"))
    return (DatabaseUnavailable if busy else LoginRefused)(
        f"Postgres at {place} refused the connection: {details.get('M', refusal)}. "
        "Check the user, the password and the database name in the secret"
    )


def _cause(error: BaseException) -> str:
    """The network's error, which pg8000 hides behind its own, and what to do about it."""
    found = os_error(error)
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


# Errors of a network without a route to the address, such as an IPv6 address in a Lambda function without IPv6.
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _tls(host: str, options: dict[str, str]) -> ssl.SSLContext | bool:
    """A context that verifies certificate and host name, whatever ``sslmode`` says. False (plaintext) only if the bytes do not leave this
    machine."""
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
