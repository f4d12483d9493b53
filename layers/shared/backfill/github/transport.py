"""HTTP to GitHub: one pool of connections per container."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
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
from backfill.github.errors import BadCredentials, BrokenOff, OutOfTime, TooLarge, Unreachable
from backfill.github.replies import Reply, classify, classify_installation_token, classify_installations
from backfill.installations import Installation

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

# This machine by name, where a token may travel without TLS; host.docker.internal is what a container calls it.
LOOPBACK = ("127.0.0.1", "::1", "localhost", "host.docker.internal")

_OF_AN_INSTALLATION = (
    "a token that begins with ghs_ is one of a GitHub App's installation and lasts an hour: put app_id and private_key into the "
    "secret, and the tokens are made from them"
)
Answer = tuple[int, Mapping[str, str], bytes]


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

    def installations(self, jwt: str, page: int, per_page: int) -> list[Installation]:
        """A page of the App's installations, 100 at most. https://docs.github.com/en/rest/apps/apps"""
        url = f"{self._rest_url}/app/installations?per_page={per_page}&page={page}"
        return classify_installations(*self._request("GET", url, jwt, None, 2 * GITHUB_QUERY_SECONDS))

    def now(self) -> datetime:
        """The time by GitHub's clock, to a second, once it has answered; until then this machine's."""
        return datetime.fromtimestamp(self._clock() + self._clock_ahead, UTC)

    def _post(self, url: str, token: str, body: Mapping[str, Any], seconds: float) -> Answer:
        return self._request("POST", url, token, body, seconds)

    def _request(self, method: str, url: str, token: str, body: Mapping[str, Any] | None, seconds: float) -> Answer:
        """Ends within ``seconds``: up to half of them for the first byte, and as many for the last piece of the rest."""
        if not token.isascii() or not token.isprintable() or " " in token:
            raise BadCredentials("the GitHub token holds characters that no token has: blanks, line ends or the like")
        if self._clock() - self._last_used > MOST_IDLE_SECONDS:
            self._session.close()
        patience = min(READ_SECONDS, seconds / 2)
        deadline = time.monotonic() + seconds - patience
        try:
            with self._session.request(
                method,
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
