"""The connection to GitHub: one session, bounded in time and size, verified, and silent about the token."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backfill.errors import BackfillError, Misconfigured
from backfill.github.errors import BadCredentials, BrokenOff, OutOfTime, TooLarge, Unexplained, Unreachable
from backfill.github.transport import MOST_BYTES, Transport
from local.simulator import PASSING, Simulator, generate

QUERY = "query { rateLimit { cost limit remaining resetAt } viewer { login } }"
TOKEN = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(1, {"octo/small": 3}), speed=1000) as running:
        yield running


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads one request per connection and then does as it is told; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                answer(connection)

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("stream reset", TooLarge),
        ("unexpected end of file", TooLarge),
        ("too large", TooLarge),
        ("truncated document", TooLarge),
        ("HTML with 200", Unexplained),
        ("unavailable", Unreachable),
    ],
)
def test_a_broken_reply_means_to_ask_for_less(simulator: Simulator, name: str, meaning: type[BackfillError]) -> None:
    simulator.script(next(each for each in PASSING if each.name == name))
    transport = Transport(simulator.url)
    with pytest.raises(meaning):
        transport.query(TOKEN, QUERY, {}, 20)
    assert transport.query(TOKEN, QUERY, {}, 20).data["viewer"] == {"login": "viewer"}


def test_a_compressed_bomb_never_fills_the_memory(simulator: Simulator) -> None:
    simulator.script(next(each for each in PASSING if each.name == "too large"))
    transport = Transport(simulator.url)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="larger than 8 MB"):
            transport.query(TOKEN, QUERY, {}, 60)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * MOST_BYTES
    finally:
        tracemalloc.stop()


def test_nobody_there_is_no_sign_of_a_request_that_is_too_large() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Unreachable, match=r"cannot reach GitHub at http://127\.0\.0\.1.*check the address"):
        Transport(address).query(TOKEN, QUERY, {}, 20)


def test_silence_ends_within_the_time_that_is_left() -> None:
    with serving(lambda _: time.sleep(30)) as url:
        begin = time.monotonic()
        with pytest.raises(OutOfTime):
            Transport(url).query(TOKEN, QUERY, {}, 2)
        assert time.monotonic() - begin < 20


def test_a_reply_that_drips_ends_within_the_time_that_is_left() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(300):
            try:
                connection.sendall(b" ")
            except OSError:
                return
            time.sleep(0.1)

    with serving(drip) as url:
        begin = time.monotonic()
        with pytest.raises(TooLarge, match="too long to arrive"):
            Transport(url).query(TOKEN, QUERY, {}, 3)
        assert time.monotonic() - begin < 20


def test_a_redirect_does_not_get_the_token() -> None:
    asked: list[bytes] = []

    def redirect(connection: socket.socket) -> None:
        asked.append(b"")
        connection.sendall(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")

    with serving(redirect) as url, pytest.raises(Unreachable, match="302"):
        Transport(url).query(TOKEN, QUERY, {}, 20)
    assert len(asked) == 1


def test_the_only_credentials_are_the_token_and_the_product_says_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[str] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(65536).decode())
                connection.sendall(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(BrokenOff):
            Transport(f"http://127.0.0.1:{listener.getsockname()[1]}").query(TOKEN, QUERY, {}, 20)
    lines = {name.lower(): value for name, _, value in (line.partition(": ") for line in seen[0].split("\r\n"))}
    assert lines["authorization"] == f"Bearer {TOKEN}"
    assert lines["user-agent"].startswith("progressive-backfill ")
    assert lines["accept-encoding"] == "gzip"


def test_many_requests_share_one_connection_and_a_rested_one_is_not_trusted(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[object] = []
    accept = simulator._server.get_request

    def counted() -> object:
        connections.append(accept())
        return connections[-1]

    monkeypatch.setattr(simulator._server, "get_request", counted)
    clock = [1000.0]
    transport = Transport(simulator.url, clock=lambda: clock[0])
    for _ in range(5):
        transport.query(TOKEN, QUERY, {}, 20)
    assert len(connections) == 1
    clock[0] += 60
    transport.query(TOKEN, QUERY, {}, 20)
    assert len(connections) == 2


@pytest.mark.parametrize("url", ["http://github.example.com/api", "ftp://api.github.com", "api.github.com"])
def test_a_token_never_travels_in_the_clear(url: str) -> None:
    with pytest.raises(Misconfigured, match="https://"):
        Transport(url)


@pytest.mark.parametrize("environment", [{}, {"REQUESTS_CA_BUNDLE": ""}, {"CURL_CA_BUNDLE": ""}])
def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        received: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    received.append(secured.recv(65536))
            except (ssl.SSLError, OSError):
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(Unreachable, match="no certificate that this machine trusts"):
            Transport(f"https://127.0.0.1:{listener.getsockname()[1]}").query(TOKEN, QUERY, {}, 20)
        thread.join(10)
    assert b"".join(received) == b""


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "certificate.pem", folder / "key.pem"
    chain.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, private


@pytest.mark.parametrize(
    ("setting", "graphql", "rest"),
    [
        ("https://api.github.com", "https://api.github.com/graphql", "https://api.github.com"),
        ("https://api.octo.ghe.com/", "https://api.octo.ghe.com/graphql", "https://api.octo.ghe.com"),
        ("https://github.example.com/api", "https://github.example.com/api/graphql", "https://github.example.com/api/v3"),
        ("https://github.example.com/api/v3", "https://github.example.com/api/graphql", "https://github.example.com/api/v3"),
        ("https://api.github.com/graphql", "https://api.github.com/graphql", "https://api.github.com"),
    ],
)  # fmt: skip
def test_each_kind_of_github_is_asked_at_its_own_addresses(
    monkeypatch: pytest.MonkeyPatch, setting: str, graphql: str, rest: str
) -> None:
    asked: list[str] = []

    def post(self: Transport, url: str, *_: object) -> tuple[int, dict[str, str], bytes]:
        asked.append(url)
        return 500, {}, b""

    monkeypatch.setattr(Transport, "_post", post)
    transport = Transport(setting)
    with pytest.raises(BrokenOff):
        transport.query(TOKEN, QUERY, {}, 20)
    with pytest.raises(Unreachable):
        transport.installation_token("jwt", "7")
    assert asked == [graphql, f"{rest}/app/installations/7/access_tokens"]


@pytest.mark.parametrize("token", ["ghp_a b", "ghp_a\n", "ghp_ä", "ghp_\x7f"])
def test_text_that_cannot_be_a_token_is_refused_unseen(token: str) -> None:
    with pytest.raises(BadCredentials) as refused:
        Transport("http://127.0.0.1:9").query(token, QUERY, {}, 20)
    assert token not in str(refused.value)


@pytest.mark.parametrize(("token", "is_told"), [("ghs_short", True), ("ghp_long", False)])
def test_a_token_of_an_installation_that_ended_says_what_to_do(
    token: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transport, "_post", lambda *_: (401, {}, b'{"message": "Bad credentials"}'))
    with pytest.raises(BadCredentials) as refused:
        Transport("https://api.github.com").query(token, QUERY, {}, 20)
    assert ("private_key" in str(refused.value)) is is_told
    assert token not in str(refused.value)
