"""The connection to Postgres: verified TLS, roles with few rights, timeouts, a rotated password."""

from __future__ import annotations

import datetime
import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pg8000.exceptions import DatabaseError

from backfill import trust
from backfill.config import DatabaseAddress
from backfill.errors import DatabaseUnavailable, Misconfigured
from backfill.github.errors import Unreachable
from backfill.github.transport import Transport
from backfill.store import address
from backfill.store.address import LoginRefused, Untrusted
from backfill.store.connection import Database
from local.in_process import Stack
from local.postgres import Postgres
from local.servers import NotHere, PgBouncer
from local.simulator import Simulator, generate
from migrations.runner import MigrationFailed, upgrade

ROOT = Path(__file__).parents[2]
HOST = "db.example.com"
NAME = "octo/roles"


class Authority:
    """A certificate authority with one certificate for HOST, as files."""

    def __init__(self, folder: Path, *, strict: bool = True) -> None:
        folder.mkdir()
        key, name = ec.generate_private_key(ec.SECP256R1()), _name(f"authority of {folder.name}")
        self.pem = folder / "authority.pem"
        certificate = _certificate(name, name, key.public_key(), key, authority=True, strict=strict)
        self.pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        own = ec.generate_private_key(ec.SECP256R1())
        self.certificate, self.key = folder / "server.crt", folder / "server.key"
        signed = _certificate(_name(HOST), name, own.public_key(), key, authority=False)
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: Any,
    *,
    authority: bool,
    strict: bool = True,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=strict)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "trusted")


@pytest.fixture(scope="module")
def ports(postgres: Postgres, authority: Authority) -> Iterator[dict[str, int]]:
    """A server that speaks only TLS, and one that cannot: PgBouncer, because the wheel's Postgres has no TLS."""
    url = postgres.url("postgres")
    try:
        servers = {"tls": PgBouncer(url, tls=(authority.certificate, authority.key)), "plain": PgBouncer(url)}
    except NotHere as error:
        pytest.skip(f"NOT TESTED, TLS to Postgres: {error}")
    yield {name: int(urlsplit(server.url(url)).port or 0) for name, server in servers.items()}
    for server in servers.values():
        server.stop()


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of example.com lead to this machine but are not its names."""
    resolve = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if str(host).endswith(".example.com") else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def ask(url: str) -> Any:
    database = Database(lambda: url)
    try:
        return database.one("SELECT 1 AS answer")
    finally:
        database.close()


def test_a_certificate_in_the_folder_is_trusted(
    ports: dict[str, int], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "CERTIFICATES", authority.pem.parent)
    assert ask(f"postgresql://postgres@{HOST}:{ports['tls']}/postgres") == {"answer": 1}


def test_a_certificate_is_found_under_the_name_that_its_provider_gives_it(
    ports: dict[str, int], authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Supabase's is prod-ca-2021.crt."""
    (tmp_path / "prod-ca-2021.crt").write_bytes(authority.pem.read_bytes())
    (tmp_path / "README.md").write_text("no certificate", encoding="utf-8")
    monkeypatch.setattr(address, "CERTIFICATES", tmp_path)
    assert ask(f"postgresql://postgres@{HOST}:{ports['tls']}/postgres") == {"answer": 1}


@pytest.mark.skipif(sys.version_info < (3, 13), reason="older Pythons do not look")
def test_an_authority_that_python_3_13_does_not_take_is_told_as_deploying_md_says(
    postgres: Postgres, tmp_path: Path, ports: dict[str, int]
) -> None:
    lax = Authority(tmp_path / "lax", strict=False)
    url = postgres.url("postgres")
    server = PgBouncer(url, tls=(lax.certificate, lax.key))
    try:
        port = urlsplit(server.url(url)).port
        with pytest.raises(Untrusted, match="Basic Constraints of CA cert not marked critical") as refused:
            ask(f"postgresql://postgres@{HOST}:{port}/postgres?sslrootcert={lax.pem}")
    finally:
        server.stop()
    rows = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
    assert "Basic Constraints of CA cert not marked critical" in str(refused.value) and "not marked critical" in rows


def test_a_channel_binding_that_is_required_and_not_there_is_refused(
    ports: dict[str, int], authority: Authority
) -> None:
    """PgBouncer offers none. Neon, whose addresses ask for it, does."""
    url = f"postgresql://postgres@{HOST}:{ports['tls']}/postgres?sslrootcert={authority.pem}"
    assert ask(f"{url}&channel_binding=prefer") == {"answer": 1}
    with pytest.raises(Untrusted, match="offers no channel binding"):
        ask(f"{url}&channel_binding=require")


def test_sslrootcert_is_trusted(ports: dict[str, int], authority: Authority) -> None:
    url = f"postgresql://postgres@{HOST}:{ports['tls']}/postgres?sslrootcert={authority.pem}"
    assert ask(url) == {"answer": 1}


@pytest.mark.parametrize("mode", ["", "sslmode=require", "sslmode=prefer", "sslmode=verify-ca"])
def test_an_unknown_authority_is_refused_whatever_sslmode_says(
    ports: dict[str, int], mode: str, tmp_path: Path
) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"cannot be trusted.*layers/shared/backfill/certificates"):
        ask(f"postgresql://postgres@{HOST}:{ports['tls']}/postgres?{mode}")
    other = Authority(tmp_path / "other")
    with pytest.raises(DatabaseUnavailable, match="cannot be trusted"):
        ask(f"postgresql://postgres@{HOST}:{ports['tls']}/postgres?sslrootcert={other.pem}&{mode}")


def test_a_certificate_of_another_host_is_refused(ports: dict[str, int], authority: Authority) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"cannot be trusted.*[Hh]ostname mismatch"):
        ask(f"postgresql://postgres@other.example.com:{ports['tls']}/postgres?sslrootcert={authority.pem}")


@pytest.mark.parametrize("mode", ["", "sslmode=allow", "sslmode=prefer", "sslmode=require"])
def test_a_server_without_tls_is_refused(ports: dict[str, int], mode: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="SSL"):
        ask(f"postgresql://postgres@{HOST}:{ports['plain']}/postgres?{mode}")


def test_no_setting_allows_plaintext_to_another_machine(ports: dict[str, int]) -> None:
    with pytest.raises(Misconfigured, match="plaintext"):
        ask(f"postgresql://postgres@{HOST}:{ports['plain']}/postgres?sslmode=disable")
    for here in ("127.0.0.1", "localhost"):
        assert ask(f"postgresql://postgres@{here}:{ports['plain']}/postgres") == {"answer": 1}


def test_a_certificate_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="certificates cannot be read"):
        ask(f"postgresql://u@{HOST}/d?sslrootcert={tmp_path / 'missing.pem'}")


def test_timeouts_hold_inside_a_transaction_and_nothing_stays_behind(db: Database) -> None:
    with db.transaction():
        assert db.one("SHOW statement_timeout") == {"statement_timeout": "1min"}
        assert db.one("SHOW idle_in_transaction_session_timeout") == {"idle_in_transaction_session_timeout": "1min"}
    # A single statement brings its own limit along; of neither does anything stay in the session.
    assert db.one("SHOW statement_timeout") == {"statement_timeout": "1min"}
    with db._usable() as session:
        assert session.run("SHOW statement_timeout") == [["0"]]
        assert session.run("SHOW idle_in_transaction_session_timeout") == [["0"]]


@contextmanager
def role(postgres: Postgres, name: str, method: str) -> Iterator[None]:
    """A role that Postgres lets in by this method of pg_hba.conf, and not because it comes from this machine."""
    folder = Path(address.connection_options(postgres.url("postgres"))["host"])
    rules = folder / "pg_hba.conf"
    before = rules.read_text(encoding="utf-8")
    postgres.run(f"CREATE ROLE {name} LOGIN")
    rules.write_text(f"local all {name} {method}\n{before}", encoding="utf-8")
    postgres.run("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        rules.write_text(before, encoding="utf-8")
        postgres.run("SELECT pg_reload_conf()")
        postgres.run(f"DROP ROLE {name}")


def test_a_rotated_password_is_read_again_and_only_once(postgres: Postgres) -> None:
    with role(postgres, "rotated", "scram-sha-256"):
        postgres.run("ALTER ROLE rotated PASSWORD 'new'")
        password, refusals = "old", []

        def rotated() -> None:
            nonlocal password
            refusals.append(password)
            password = "new"

        parts = urlsplit(postgres.url("postgres"))
        database = Database(lambda: f"postgresql://rotated:{password}@{parts.path}?{parts.query}", rotated)
        assert database.one("SELECT current_user AS role") == {"role": "rotated"}
        assert refusals == ["old"]
        database.close()
        wrong = Database(lambda: f"postgresql://rotated:wrong@{parts.path}?{parts.query}")
        with pytest.raises(LoginRefused, match="password authentication failed"):
            wrong.one("SELECT 1 AS one")


class SecretsManager(BaseHTTPRequestHandler):
    """Answers GetSecretValue with ``held``, whatever secret is asked for, and counts."""

    held: ClassVar[str] = ""
    reads: ClassVar[int] = 0

    def do_POST(self) -> None:
        """The only operation that the functions use."""
        assert self.headers["X-Amz-Target"] == "secretsmanager.GetSecretValue"
        type(self).reads += 1
        answer = json.dumps({"SecretString": self.held}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads its log."""


@pytest.fixture
def iam_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseAddress]:
    """The address of a database whose secret says that the function's role logs in."""
    secret = {"username": "by_iam", "host": HOST, "port": 5433, "dbname": "postgres", "iam": True}
    monkeypatch.setattr(SecretsManager, "held", json.dumps(secret))
    monkeypatch.setattr(SecretsManager, "reads", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), SecretsManager)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{server.server_port}")
    # Temporary credentials, as every function has: their session token makes the password some thousand characters long.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "IQoJ/+=" * 150)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    # boto3 keeps the credentials that it saw first, those of a test before this one.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    yield DatabaseAddress(None, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x")
    server.shutdown()
    server.server_close()


def test_by_iam_every_connection_has_a_token_of_its_own_for_a_quarter_of_an_hour(iam_address: DatabaseAddress) -> None:
    tokens = [address.connection_options(iam_address())["password"]]
    time.sleep(1.1)
    tokens.append(address.connection_options(iam_address())["password"])
    assert SecretsManager.reads == 1
    times = []
    for token in tokens:
        parts = urlsplit(f"https://{token}")
        assert parts.netloc == f"{HOST}:5433"
        fields = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert (fields["Action"], fields["DBUser"], fields["X-Amz-Expires"]) == ("connect", "by_iam", "900")
        assert re.fullmatch(r"ASIAEXAMPLE/\d{8}/eu-west-1/rds-db/aws4_request", fields["X-Amz-Credential"])
        assert fields["X-Amz-Security-Token"] == "IQoJ/+=" * 150
        assert re.fullmatch(r"[0-9a-f]{64}", fields["X-Amz-Signature"])
        times.append(fields["X-Amz-Date"])
    assert times[0] < times[1]


def test_by_iam_the_token_reaches_postgres_unharmed(postgres: Postgres, iam_address: DatabaseAddress) -> None:
    """RDS asks for the password in clear, inside TLS, and checks the signature; here Postgres asks so and compares."""
    login = urlsplit(iam_address()).netloc.rpartition("@")[0]
    here = urlsplit(postgres.url("postgres"))
    url = f"postgresql://{login}@{here.path}?{here.query}"
    with role(postgres, "by_iam", "password"):
        token = address.connection_options(url)["password"]
        postgres.run(f"ALTER ROLE by_iam PASSWORD '{token}'")
        db = Database(lambda: url)
        assert db.one("SELECT current_user AS role") == {"role": "by_iam"}
        db.close()
        postgres.run(f"ALTER ROLE by_iam PASSWORD '{token[:-1]}'")
        with pytest.raises(LoginRefused, match="password authentication failed"):
            db.one("SELECT 1 AS one")


@pytest.fixture
def roles(postgres: Postgres) -> Iterator[Callable[[str], str]]:
    """A database with the roles that docs/deploying.md makes; the URL of each.

    Their administrator is what hosted Postgres gives: the owner of the database, who may create roles and is not a superuser.
    """
    document = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
    block = re.search(r"```sql\n(.*?)```", document, re.DOTALL)
    assert block is not None
    postgres.run("CREATE ROLE administrator LOGIN CREATEROLE")
    postgres.run("CREATE DATABASE roles OWNER administrator")

    def url(role: str) -> str:
        return postgres.url("roles").replace("//postgres:", f"//{role}:")

    superuser, administrator = Database(lambda: postgres.url("roles")), Database(lambda: url("administrator"))
    # Up to PostgreSQL 14 it belongs to the role that made the server, which is the administrator where Postgres is hosted.
    superuser.execute("ALTER SCHEMA public OWNER TO administrator")
    for statement in block[1].split(";"):
        if statement.strip():
            administrator.execute(statement)
    yield url
    administrator.close()
    superuser.close()
    postgres.run("DROP DATABASE roles WITH (FORCE)")
    for role in ("backfill_worker", "backfill_owner", "administrator"):
        postgres.run(f"DROP ROLE {role}")


def test_the_documented_worker_role_does_all_its_work_and_changes_no_table(roles: Callable[[str], str]) -> None:
    with pytest.raises(MigrationFailed, match=r"permission denied.*nothing was changed"):
        upgrade(roles("backfill_worker"))
    upgrade(roles("backfill_owner"))
    db = Database(lambda: roles("backfill_worker"))
    assert db.one("SELECT current_user AS role") == {"role": "backfill_worker"}
    assert db.one("SHOW statement_timeout") == {"statement_timeout": "1min"}
    with Simulator(generate(7, {NAME: 60}), speed=2000) as simulator:
        stack = Stack(db, simulator)
        stack.console.act({"action": "add", "repository": NAME})
        stack.run()
        assert stack.state()["status"] == "completed"
        stack.assert_equals_github()
    for forbidden in (
        "DROP TABLE files",
        "ALTER TABLE files ADD COLUMN more text",
        "CREATE TABLE mine (id integer)",
        "TRUNCATE pull_requests",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "ALTER ROLE backfill_worker SUPERUSER",
    ):
        with pytest.raises(DatabaseError, match="42501"):
            db.execute(forbidden)
    db.close()


def test_by_the_documented_roles_supabases_data_api_sees_nothing(
    postgres: Postgres, roles: Callable[[str], str]
) -> None:
    """There the administrator's tables in ``public`` belong to the roles of the Data API by default."""
    document = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
    exposed = re.search(r"```sql\n(SELECT [^`]*'anon'[^`]*)```", document)
    assert exposed is not None
    administrator = Database(lambda: roles("administrator"))
    for role in ("anon", "authenticated"):
        postgres.run(f"CREATE ROLE {role} NOLOGIN")
        administrator.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {role}")
    try:
        upgrade(roles("backfill_owner"))
        assert administrator.rows(exposed[1].strip(";\n")) == []
        # The Data API sees tables that the administrator makes, so the administrator must not own the product's tables.
        administrator.execute("CREATE TABLE by_the_administrator (id integer)")
        found = administrator.rows(exposed[1].strip(";\n"))
        assert {(row["grantee"], row["table_name"]) for row in found} == {
            ("anon", "by_the_administrator"),
            ("authenticated", "by_the_administrator"),
        }
    finally:
        for role in ("anon", "authenticated"):
            administrator.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM {role}")
            administrator.execute("DROP TABLE IF EXISTS by_the_administrator")
        administrator.close()
        for role in ("anon", "authenticated"):
            postgres.run(f"DROP ROLE {role}")


def test_an_enterprise_server_with_a_private_authority_is_reached_by_the_same_folder(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = b'{"data": {"viewer": {"login": "octocat"}}}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(authority.certificate, authority.key)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://{HOST}:{server.server_address[1]}/api"
        monkeypatch.setattr(trust, "FOLDER", tmp_path)
        with pytest.raises(Unreachable, match="certificates"):
            Transport(url).query("ghp_x", "query { viewer { login } }", {}, 20)
        monkeypatch.setattr(trust, "FOLDER", authority.pem.parent)
        reply = Transport(url).query("ghp_x", "query { viewer { login } }", {}, 20)
        assert reply.data == {"viewer": {"login": "octocat"}}
        server.shutdown()
