"""Functions outside the local AWS reach the local stack only on request, and nothing else does."""

from __future__ import annotations

import socket
import stat
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pg8000.native
import psutil
import pytest

from backfill.errors import DatabaseUnavailable
from backfill.store.address import connect, connection_options
from local import doors
from local.invoke import settings_of_file
from local.postgres import Postgres
from local.simulator import Simulator, generate
from local.stack import Failed, Stack

# It stands in for Docker's bridge: an address of this machine on which the parts of the stack do not listen.
BRIDGE = "127.0.0.2"
QUEUES = dict.fromkeys(("CHUNK_QUEUE_URL", "PLAN_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"), "http://127.0.0.1:9/0/queue")


@pytest.fixture
def stack(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A running stack of Postgres and simulator."""
    monkeypatch.setattr(doors, "bridge_address", lambda: BRIDGE)
    made = Stack(tmp_path)
    made.logs.mkdir()
    with Simulator(generate(1, {"octo/doors": 1})) as simulator:
        environment = {
            "DATABASE_URL": postgres.url("postgres"),
            "GITHUB_API_URL": simulator.url,
            "GITHUB_TOKEN": "ghp_test",
            "AWS_DEFAULT_REGION": "eu-west-1",
            **QUEUES,
        }
        made._save({"ready": True, "processes": {}, "environment": environment})
        yield made
        made.down()


def listening(stack: Stack) -> set[tuple[str, int]]:
    """What the stack's own processes listen on."""
    state = stack.running() or {"processes": {}}
    return {
        (each.laddr.ip, each.laddr.port)
        for pid in state["processes"].values()
        for each in psutil.Process(pid).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }


def here(url: str, place: str) -> str:
    return url.replace(doors.MACHINE, place)


def port_of(url: str) -> int:
    return connection_options(url)["port"] if url.startswith("postgresql") else int(url.split(":")[2].split("/")[0])


def test_containers_reach_the_stack_when_it_is_asked_for_and_only_then(stack: Stack) -> None:
    settings = stack.open_doors(containers=False)
    assert {address for address, _ in listening(stack)} == {"127.0.0.1"}

    assert stack.open_doors(containers=True) == settings, "an env file that was written before stays right"
    assert {address for address, _ in listening(stack)} == {"127.0.0.1", BRIDGE}
    asked = urllib.request.Request(  # noqa: S310 - this machine
        here(settings["GITHUB_API_URL"], BRIDGE) + "/graphql",
        data=b'{"query": "{ viewer { login } }"}',
        headers={"authorization": "bearer ghp_test"},
    )
    with urllib.request.urlopen(asked) as answer:  # noqa: S310 - this machine
        assert "viewer" in answer.read().decode()
    # A second `make env-file` closes nothing.
    assert stack.open_doors(containers=False) == settings
    assert (BRIDGE, port_of(settings["GITHUB_API_URL"])) in listening(stack)

    stack.down()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((BRIDGE, port_of(settings["GITHUB_API_URL"])), timeout=2)


@pytest.mark.parametrize("place", ["127.0.0.1", BRIDGE])
def test_postgres_is_reached_by_its_password_alone(stack: Stack, place: str) -> None:
    url = here(stack.open_doors(containers=True)["DATABASE_URL"], place)
    connection = connect(pg8000.native.Connection, url)
    # More than one read of the relay's.
    assert connection.run("SELECT repeat('x', 1000000)") == [["x" * 1000000]]
    connection.close()
    password = connection_options(url)["password"]
    for wrong in ("wrong", ""):
        with pytest.raises(DatabaseUnavailable):
            connect(pg8000.native.Connection, url.replace(f":{password}@", f":{wrong}@"))


def test_a_stranger_to_the_protocol_is_let_go(stack: Stack) -> None:
    port = port_of(stack.open_doors(containers=False)["DATABASE_URL"])
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x08\0\0\0\0x\0\0\0\x04", b"\xff" * 64):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            while client.recv(100):
                pass


def test_the_settings_name_this_machine_as_containers_do_and_processes_do_not(stack: Stack) -> None:
    settings = stack.open_doors(containers=False)
    assert settings["CHUNK_QUEUE_URL"] == "http://host.docker.internal:9/0/queue"
    assert settings["GITHUB_API_URL"].startswith("http://host.docker.internal:")
    assert (settings["GITHUB_TOKEN"], settings["AWS_REGION"]) == ("ghp_test", "eu-west-1")
    assert doors.without_containers(settings)["CHUNK_QUEUE_URL"] == QUEUES["CHUNK_QUEUE_URL"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://api.github.com", "https://api.github.com"),
        ("http://localhost:8080", "http://host.docker.internal:8080"),
        ("http://[::1]:8080/api", "http://host.docker.internal:8080/api"),
        ("https://localhost.example.com", "https://localhost.example.com"),
    ],
)
def test_only_addresses_of_this_machine_are_renamed(given: str, expected: str) -> None:
    url = "postgresql://u:localhost@db.example.com/d"
    environment = {"GITHUB_API_URL": given, "AWS_DEFAULT_REGION": "us-east-1"}
    found = doors.for_containers(environment, url)
    assert (found["GITHUB_API_URL"], found["DATABASE_URL"]) == (expected, url)


def test_a_server_of_the_users_own_is_relayed_by_its_port(stack: Stack) -> None:
    assert doors.socket_of("postgresql://u:p@localhost:5433/d") is None
    assert doors.loopback_ports({"DATABASE_URL": "postgresql://u:p@localhost:5433/d"}) == [5433]
    assert doors.loopback_ports({"DATABASE_URL": "postgresql://u:p@db.example.com:5433/d"}) == []


@pytest.mark.parametrize("interfaces", [{}, {"docker0": []}, {"eth0": [SimpleNamespace(family=socket.AF_INET)]}])
def test_without_a_bridge_there_is_no_address(interfaces: Mapping[str, object]) -> None:
    assert doors.bridge_address(interfaces) is None


def test_without_a_bridge_or_a_stack_it_says_what_to_do(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "bridge_address", lambda: None)
    with pytest.raises(Failed, match=r"docker0 has no address here: start Docker"):
        stack.open_doors(containers=True)
    with pytest.raises(Failed, match=r"no local stack runs here; start it with: make up"):
        Stack(stack.folder / "another").open_doors(containers=False)


def test_the_env_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "env.json"
    file.write_text("{}", encoding="utf-8")
    file.chmod(0o644)
    doors.write(file, {"GITHUB_TOKEN": "t"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert settings_of_file("PlannerFunction", file) == {"GITHUB_TOKEN": "t"}
