"""HTTP to GitHub: one session per container, and one place that turns a reply into data or into an error type."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from backfill import trust
from backfill.errors import BackfillError, Misconfigured
from backfill.github import headers as header
from backfill.github.errors import (
    BadCredentials,
    BrokenOff,
    Forbidden,
    OutOfTime,
    RateLimited,
    TooLarge,
    Unexplained,
    Unreachable,
    understood,
)
from backfill.github.refusals import Judged, Path, Refusal, judge, rate_limit, why_forbidden
from backfill.limits import LONGEST_WINDOW_SECONDS

# GitHub wants the application's name here; with it, its support can tell who asks.
USER_AGENT = f"progressive-backfill python-requests/{requests.__version__}"
CONNECT_SECONDS = 5.0
# GitHub gives a query 10 seconds; a little more for the way back.
READ_SECONDS = 25.0
GITHUB_QUERY_SECONDS = 10.0
# The most that a reply may hold after decompression. Far above what a request is sized for; as Python's objects it takes
# up to 25 times as much (many empty lists), usually 5 to 9 times.
MOST_BYTES = 8 * 1024 * 1024
PIECE_BYTES = 64 * 1024
# A connection that rested longer (a frozen container) may be dead without this side knowing: another is opened.
MOST_IDLE_SECONDS = 20.0
# A certificate of GitHub's is good for months: a clock that is further off than this could not even connect, so a ``Date``
# that differs more from this machine's clock is a mistake.
MOST_CLOCK_DIFFERENCE_SECONDS = 24 * 3600.0
# What GitHub grants a request that it counts as nobody's, by the hour.
POINTS_OF_NOBODY = 60
# What a column of the budget holds; GitHub's limits are far below.
MOST_POINTS = 2**31 - 1

# This machine by name, where a token may travel without TLS; host.docker.internal is what a container calls it.
LOOPBACK = ("127.0.0.1", "::1", "localhost", "host.docker.internal")

_OF_AN_INSTALLATION = (
    "a token that begins with ghs_ is one of a GitHub App's installation and lasts an hour: put app_id, installation_id and "
    "private_key into the secret, and the tokens are made from them"
)
Answer = tuple[int, Mapping[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """A usable reply of ``size`` bytes, with what is ``missing`` or ``refused`` in it (see backfill.github.refusals)."""

    data: dict[str, Any]
    missing: frozenset[Path]
    cost: int | None
    limit: int | None
    remaining: int | None
    reset_seconds: float | None
    """From now until the budget's reset, by GitHub's own clock: other clocks do no harm."""
    size: int = 0
    refused: Mapping[Path, Refusal] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport:
    """POSTs with a bearer token. Raises the types of backfill.github.errors; never shows the token.

    ``api_url`` is ``https://api.github.com``, ``https://api.NAME.ghe.com`` or ``https://HOST/api`` of an Enterprise
    Server. ``clock`` is this machine's, in seconds since 1970; GitHub's own is learned from its replies.
    """

    def __init__(self, api_url: str, clock: Callable[[], float] = time.time) -> None:
        base = api_url.rstrip("/").removesuffix("/graphql").removesuffix("/v3")
        try:
            parts = urlsplit(base)
            local = parts.hostname in LOOPBACK
        except ValueError:
            raise Misconfigured("GITHUB_API_URL", "must be an address as https://api.github.com") from None
        # Every error about the way to GitHub names this address.
        if "@" in parts.netloc:
            raise Misconfigured("GITHUB_API_URL", "must hold no user or password: the token has a secret of its own")
        if parts.query or parts.fragment:
            raise Misconfigured("GITHUB_API_URL", "must end with its path: GitHub's API takes nothing after ? or #")
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise Misconfigured("GITHUB_API_URL", "must begin with https://, for the token travels with each request")
        self.api_url = base
        # An Enterprise Server has its REST API beside GraphQL, not around it.
        self._rest_url = f"{base}/v3" if parts.path.endswith("/api") else base
        self._clock = clock
        self._clock_ahead = 0.0
        self._last_used = 0.0
        self._session = requests.Session()
        if parts.scheme == "https" and any(trust.FOLDER.glob("*.pem")) | any(trust.FOLDER.glob("*.crt")):
            self._session.mount("https://", _TrustingAdapter(trust.trusted(trust.FOLDER)))
        self._session.headers.update(
            {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"}
        )

    @property
    def is_newest(self) -> bool:
        """Whether this is github.com, whose schema the queries are written for. Any other server may be older."""
        return urlsplit(self.api_url).hostname == "api.github.com"

    def query(self, token: str, document: str, variables: Mapping[str, Any], seconds: float) -> Reply:
        """Run one query; give up within ``seconds``."""
        body = {"query": document, "variables": variables}
        try:
            return classify(*self._post(f"{self.api_url}/graphql", token, body, seconds))
        except BadCredentials as refused:
            if not token.startswith("ghs_"):
                raise
            failure = BadCredentials(f"{refused}; {_OF_AN_INSTALLATION}", transient=refused.transient)
        raise failure

    def installation_token(self, jwt: str, installation_id: str) -> tuple[str, datetime]:
        """A token of a GitHub App's installation, and when it expires by GitHub's clock."""
        url = f"{self._rest_url}/app/installations/{installation_id}/access_tokens"
        return classify_installation_token(*self._post(url, jwt, {}, 2 * GITHUB_QUERY_SECONDS))

    def now(self) -> datetime:
        """The time by GitHub's clock, to a second, once it has answered; until then this machine's."""
        return datetime.fromtimestamp(self._clock() + self._clock_ahead, UTC)

    def _post(self, url: str, token: str, body: Mapping[str, Any], seconds: float) -> Answer:
        """Ends within ``seconds``: up to half of them for the first byte, and as many for the last piece of the rest."""
        if not token.isascii() or not token.isprintable() or " " in token:
            raise BadCredentials("the GitHub token holds characters that no token has: blanks, line ends or the like")
        if self._clock() - self._last_used > MOST_IDLE_SECONDS:
            self._session.close()
        patience = min(READ_SECONDS, seconds / 2)
        deadline = time.monotonic() + seconds - patience
        try:
            with self._session.post(
                url,
                json=body,
                auth=_Bearer(token),
                timeout=(min(CONNECT_SECONDS, patience), patience),
                allow_redirects=False,
                stream=True,
            ) as response:
                self._learn_clock(response.headers)
                return response.status_code, response.headers, _read(response.raw, deadline)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failure = _failure(error, self.api_url, patience)
        finally:
            self._last_used = self._clock()
        # Raised out here, so that it carries no context: the exceptions of requests hold the request and its token.
        raise failure

    def _learn_clock(self, headers: Mapping[str, str]) -> None:
        date = header.moment(headers, "date")
        if date is None:
            return
        # Told in whole seconds, rounded down: up to one more has passed, and no token must be used after its end.
        ahead = date.timestamp() + 1.0 - self._clock()
        if abs(ahead) <= MOST_CLOCK_DIFFERENCE_SECONDS:
            self._clock_ahead = ahead


class _TrustingAdapter(HTTPAdapter):
    """Verifies by the authorities of the certificates folder too, as an Enterprise Server with a private one needs."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)


class _Bearer(AuthBase):
    """Given as ``auth``, so that requests looks for no other credentials (a .netrc of the machine)."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _read(raw: Any, deadline: float) -> bytes:
    """The decompressed body, in pieces as they arrive: what is too large or too slow is never held or awaited whole."""
    pieces, size = [], 0
    while piece := raw.read1(PIECE_BYTES, decode_content=True):
        size += len(piece)
        if size > MOST_BYTES:
            raise TooLarge(f"GitHub's reply is larger than {MOST_BYTES // 1024**2} MB")
        if time.monotonic() > deadline:
            raise TooLarge("GitHub's reply takes too long to arrive")
        pieces.append(piece)
    return b"".join(pieces)


def _failure(error: Exception, api_url: str, patience: float) -> BackfillError:
    """No reply, or half of one. A break while GitHub worked is how a request that is too large may end."""
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        if patience < GITHUB_QUERY_SECONDS:
            return OutOfTime("the function's time ended before GitHub's reply")
        return TooLarge(f"no reply from GitHub in {patience:.0f} seconds")
    if isinstance(error, requests.exceptions.SSLError):
        return Unreachable(
            f"GitHub at {api_url} shows no certificate that this machine trusts; put that of "
            "its authority into layers/shared/backfill/certificates"
        )
    cause = error.args[0] if isinstance(error, requests.ConnectionError) and error.args else error
    if isinstance(cause, urllib3.exceptions.ProtocolError | urllib3.exceptions.DecodeError):
        return BrokenOff(f"GitHub's reply broke off: {type(cause).__name__}")
    return Unreachable(
        f"cannot reach GitHub at {api_url} ({type(error).__name__}); check the address, and the way out of the subnets"
    )


@understood()
def classify(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """Data, or the error type that says what to do. What is not understood raises Unexplained.

    ``headers`` are looked up in lower case. The cases are the rows of the failure table in the facts about the API.
    """
    answer = _object(body)
    _raise_for_access(status, headers, answer, body)
    if status in (413, 502, 504):
        raise TooLarge(f"GitHub answered {status}")
    if status == 500:
        raise BrokenOff("GitHub answered 500")
    if status != 200:
        raise Unreachable(f"GitHub answered {status}; check GITHUB_API_URL, and https://www.githubstatus.com")
    if answer is None:
        if b"RESOURCE_LIMITS_EXCEEDED" in body:
            raise TooLarge("GitHub's reply says that resource limits were exceeded, and breaks off")
        if body.lstrip()[:1] in (b"{", b""):
            raise BrokenOff("GitHub's reply is not a complete JSON document")
        raise Unexplained("GitHub's reply is no JSON document")
    data, errors = answer.get("data"), answer.get("errors") or []
    if not isinstance(errors, list) or not all(isinstance(error, dict) for error in errors):
        raise Unexplained("GitHub's reply holds errors of an unknown form")
    judged = judge(errors, data)
    if not isinstance(data, dict):
        raise Unexplained("GitHub's reply holds no data")
    return _reply(data, judged, headers, len(body))


def classify_installation_token(status: int, headers: Mapping[str, str], body: bytes) -> tuple[str, datetime]:
    """The token and its end, from the reply of POST /app/installations/{id}/access_tokens."""
    answer = _object(body)
    if status in (401, 404):
        raise BadCredentials(
            "GitHub refuses the app: check app_id, installation_id and private_key in the secret, "
            f"and that the app is still installed ({_message(answer) or status})"
        )
    _raise_for_access(status, headers, answer, body)
    try:
        if status != 201 or answer is None:
            raise ValueError
        return str(answer["token"]), datetime.fromisoformat(answer["expires_at"].replace("Z", "+00:00"))
    except (KeyError, ValueError, AttributeError):
        pass
    raise Unreachable(f"GitHub answered {status} without a token when asked for one of the app's installation")


def _raise_for_access(status: int, headers: Mapping[str, str], answer: dict[str, Any] | None, body: bytes) -> None:
    """Refusals that have nothing to do with what was asked: credentials, limits, permissions."""
    if status == 401:
        transient = header.whole(headers, "x-ratelimit-limit") == POINTS_OF_NOBODY
        raise BadCredentials("GitHub answers 401 to this token: it is wrong, expired or revoked", transient=transient)
    kind = _limit(status, headers, answer, body)
    if kind is not None:
        raise RateLimited(kind, _wait(kind, headers))
    if status == 451:
        raise Forbidden(f"GitHub blocks this for legal reasons (451): {_message(answer) or 'no reason given'}")
    if status == 403:
        if answer is None:
            raise Unexplained("GitHub answered 403 without a reason")
        raise Forbidden(why_forbidden(_message(answer), needs_single_sign_on=bool(headers.get("x-github-sso"))))


def _limit(status: int, headers: Mapping[str, str], answer: dict[str, Any] | None, body: bytes) -> str | None:
    """``primary`` or ``secondary`` if the reply is a rate limit, else None. Only the text tells one 403 from another."""
    is_refused = status in (403, 429)
    if answer is None and is_refused:
        # A page of HTML. In a broken JSON document of another status the words may be somebody's comment.
        answer = {"message": body[:2000].decode(errors="replace")}
    kind = rate_limit(answer or {}, is_refused=is_refused)
    if kind is None and is_refused and header.whole(headers, "x-ratelimit-remaining") == 0:
        kind = "primary"
    return kind or ("secondary" if status == 429 or (status == 403 and "retry-after" in headers) else None)


def _wait(kind: str, headers: Mapping[str, str]) -> float | None:
    """Seconds that GitHub asks to wait: its retry-after; else, with points spent, its reset; else no word."""
    now = _clock(headers)
    seconds = header.retry_after_seconds(headers, now)
    if seconds is None and (kind == "primary" or header.whole(headers, "x-ratelimit-remaining") == 0):
        seconds = header.reset_seconds(headers, now)
    return seconds


def _reply(data: dict[str, Any], judged: Judged, headers: Mapping[str, str], size: int) -> Reply:
    """``rateLimit`` is null where an Enterprise Server limits nothing."""
    budget = data.get("rateLimit") or {}
    try:
        cost, limit, remaining = (_points(budget.get(name)) for name in ("cost", "limit", "remaining"))
        return Reply(
            data, judged.missing, cost, limit, remaining, _until_reset(budget, headers), size, judged.refused, headers
        )
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        pass
    raise Unexplained("GitHub's rateLimit is of an unknown form")


def _points(value: Any) -> int | None:
    return None if value is None else min(MOST_POINTS, max(0, int(value)))


def _until_reset(budget: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    """Seconds until ``resetAt``. One that has passed is no information: it must not make a window look full."""
    if not budget.get("resetAt"):
        return None
    until = datetime.fromisoformat(budget["resetAt"].replace("Z", "+00:00"))
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    seconds = (until - _clock(headers)).total_seconds()
    return min(LONGEST_WINDOW_SECONDS, seconds) if seconds > 0 else None


def _object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that a body holds, or None."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _message(answer: dict[str, Any] | None) -> str:
    return str(answer.get("message", ""))[:500] if answer else ""


def _clock(headers: Mapping[str, str]) -> datetime:
    """GitHub's time of the reply; this machine's where it gave none."""
    return header.moment(headers, "date") or datetime.now(UTC)
