"""The local stack: Postgres, a GitHub simulator, and the real template deployed to a local AWS. `python -m local.stack --help`"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import psutil

from cli import local_stack
from cli.local_stack import is_alive, is_anothers, is_ours
from local import builds, doors, postgres

ROOT = Path(__file__).parents[1]
# Builds of all stacks of this checkout.
BUILDS = ROOT / ".local/builds"
DATA = ROOT.parent / "shared" / "data" / "github"
STACK_NAME = "progressive-backfill"
REGION = "us-east-1"
RECORDER = ROOT / "local/recorder"
START_SECONDS = 60
# A port that is free when it is chosen may be taken by another stack before the local AWS listens on it.
PORT_TRIES = 3
SECRETS = ("DATABASE_URL", "GITHUB_TOKEN")


# What `make env` exported of another local stack, as JSON: not a wish of the user for this one.
GIVEN_BY_A_STACK = "LOCAL_STACK_GAVE"


class Failed(Exception):
    """A part did not start; the message says which, and where its log is."""


def default_folder() -> Path:
    """Where the state of this checkout's stack is; LOCAL_FOLDER names another one, and so a second stack."""
    return Path(os.environ.get("LOCAL_FOLDER") or ROOT / ".local").resolve()


class Stack:
    """State in one folder: ``stack.json`` while it runs, ``logs``, and Postgres' data.

    ``parameters`` are the template's, over those that every local stack needs. With ``records_calls``, the AWS calls of the
    functions go into the file ``calls``.
    """

    def __init__(
        self, folder: Path, parameters: Mapping[str, str] | None = None, *, records_calls: bool = False
    ) -> None:
        self.folder = folder
        self._records_calls = records_calls
        self.calls = folder / "aws-calls.jsonl"
        self._parameters = parameters or {}
        self.file = folder / "stack.json"
        self.logs = folder / "logs"

    def running(self) -> dict[str, Any] | None:
        """What runs, or None. A file whose processes are gone counts for nothing."""
        return local_stack.running(self.folder)

    def up(self) -> dict[str, Any]:
        """Start everything that does not run yet, and deploy."""
        with self._locked():
            return self.running() or self._up()

    def _up(self) -> dict[str, Any]:
        self._down()
        self.logs.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {"ready": False, "processes": {}, "environment": {}}
        try:
            self._start(state)
        except BaseException:
            self._save(state)
            self._down()
            raise
        state["ready"] = True
        self._save(state)
        return state

    def _start(self, state: dict[str, Any]) -> None:
        environment: dict[str, str] = state["environment"]
        environment["DATABASE_URL"] = _wished("DATABASE_URL") or self._postgres(state)
        self._github(state)
        self.start_aws(state)
        self._secrets(state)
        self.deploy(state, self.build())

    def _postgres(self, state: dict[str, Any]) -> str:
        _say("Postgres")
        server = postgres.Postgres(self.folder / "postgres", keep=True)
        state["postgres"] = str(self.folder / "postgres")
        server.create("backfill")
        return _given(state, "DATABASE_URL", server.url("backfill"))

    def _github(self, state: dict[str, Any]) -> None:
        environment = state["environment"]
        token, url = _wished("GITHUB_TOKEN"), _wished("GITHUB_API_URL")
        if token or url:
            environment["GITHUB_TOKEN"] = token or "none"
            environment["GITHUB_API_URL"] = url or "https://api.github.com"
            return
        _say("GitHub simulator")
        ports = self.folder / "simulator.port"
        ports.unlink(missing_ok=True)
        source = ["--data", str(DATA)] if DATA.is_dir() else ["--generate", "1"]
        speed = os.environ.get("SPEED", "10")
        command = [sys.executable, "-m", "local.simulator", *source, "--speed", speed, "--port-file", str(ports)]
        self._spawn(state, "simulator", command, {})
        self._wait(state, "simulator", lambda: ports.exists() and bool(ports.read_text(encoding="utf-8")))
        simulator = f"http://127.0.0.1:{ports.read_text(encoding='utf-8')}"
        environment["GITHUB_API_URL"] = _given(state, "GITHUB_API_URL", simulator)
        environment["GITHUB_TOKEN"] = _given(state, "GITHUB_TOKEN", "ghp_local")  # the simulator takes any

    def start_aws(self, state: dict[str, Any]) -> None:
        """The local AWS, empty; how to reach it goes into the state's environment."""
        _say("local AWS")
        for _ in range(PORT_TRIES - 1):
            try:
                return self._start_aws(state, free_port())
            except Failed:
                if is_ours(state, "ministack"):
                    raise
        return self._start_aws(state, free_port())

    def _start_aws(self, state: dict[str, Any], port: int) -> None:
        endpoint = f"http://127.0.0.1:{port}"
        local = {
            "GATEWAY_PORT": str(port),
            "EDGE_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": endpoint,
            "PERSIST_STATE": "0",
            # Its defaults are folders of /tmp that all local stacks of a machine would share.
            "STATE_DIR": str(self.folder / "aws"),
            "S3_DATA_DIR": str(self.folder / "aws/s3"),
            # Its MQTT door would listen on every interface, at a port that a second stack wants too.
            "IOT_MTLS_ENABLED": "0",
            # Functions inherit it, and see only what was packaged.
            "PYTHONPATH": "",
        }
        if self._records_calls:
            local |= {"PYTHONPATH": str(RECORDER), "AWS_CALLS_FILE": str(self.calls)}
        self._spawn(state, "ministack", [str(ROOT / ".venv-aws/bin/ministack")], local)
        # Another stack's local AWS may answer at a port that this one wanted.
        pid = state["processes"]["ministack"]
        self._wait(state, "ministack", lambda: listens(pid, port) and _answers(f"{endpoint}/_ministack/health"))
        state["environment"].update(
            AWS_ENDPOINT_URL=endpoint,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",  # noqa: S106 - the local AWS takes any
            AWS_DEFAULT_REGION=REGION,
            STACK_NAME=STACK_NAME,
        )

    def _secrets(self, state: dict[str, Any]) -> None:
        """What a user keeps in Secrets Manager, kept in the local one; and the other parameters of the template."""
        environment = state["environment"]
        state["parameters"] = {
            "Architecture": machine_architecture(),
            "DatabaseSecretArn": _secret(environment, "database", environment["DATABASE_URL"]),
            "GitHubSecretArn": _secret(environment, "github", environment["GITHUB_TOKEN"]),
            "GitHubApiUrl": environment["GITHUB_API_URL"],
            **self._parameters,
        }

    def build(self, source: Path = ROOT, name: str = "build") -> Path:
        """`sam build` of the template in ``source``, for the Python of this machine; the built template, in folder ``name``."""
        _say("sam build")
        self.logs.mkdir(parents=True, exist_ok=True)
        environment = _tools(dict(os.environ))
        environment["LAYER_PYTHON"] = str(ROOT / ".venv-aws/bin/python")
        environment["LAYER_TARGET"] = f"--python {environment['LAYER_PYTHON']}"
        template = self._built(source, self.folder / name, environment)
        _for_the_local_aws(template)
        return template

    def build_for_lambda(self) -> Path:
        """`sam build` for Lambda's Python and this machine's instruction set, as containers need it; the built template."""
        _say("sam build, for containers")
        self.logs.mkdir(parents=True, exist_ok=True)
        environment = _tools(dict(os.environ))
        machine = {"arm64": "aarch64", "x86_64": "x86_64"}[machine_architecture()]
        environment["LAYER_PLATFORM"] = f"{machine}-manylinux2014"
        found = subprocess.run(
            ["sh", str(ROOT / "local/find-python.sh"), "3.13"], capture_output=True, text=True, check=False
        )
        environment["LAYER_PYTHON"] = found.stdout.strip()
        return self._built(ROOT, self.folder / "containers", environment)

    def _built(self, source: Path, folder: Path, environment: dict[str, str]) -> Path:
        """The template of a build in ``folder``, built now or earlier from the same content."""

        def build(place: Path) -> None:
            command = ["sam", "build", "--template", str(source / "template.yaml"), "--build-dir", str(place)]
            self._run(f"sam-{folder.name}", command, environment)

        settings = {name: value for name, value in environment.items() if name.startswith("LAYER_")}
        builds.built(BUILDS, builds.Build(source, builds.content_of(source, settings), folder), build)
        return folder / "template.yaml"

    def deploy(self, state: dict[str, Any], template: Path) -> None:
        """`sam deploy` of a built template, anew or over what is deployed. Raises Failed with the end of what SAM says."""
        environment = _tools({**os.environ, **state["environment"]})
        _say("sam deploy")
        command = ["sam", "deploy", "--template-file", str(template), "--stack-name", STACK_NAME]
        command += ["--region", REGION, "--resolve-s3", "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset"]
        command += ["--no-fail-on-empty-changeset", "--no-progressbar", "--parameter-overrides"]
        command += [f'ParameterKey={key},ParameterValue="{value}"' for key, value in state["parameters"].items()]
        self._run("sam-deploy", command, environment)
        account = "000000000000"
        for name, queue in (
            ("CHUNK_QUEUE_URL", "chunks"),
            ("PLAN_QUEUE_URL", "plans"),
            ("DEAD_LETTER_QUEUE_URL", "dead-letters"),
        ):
            state["environment"][name] = f"{environment['AWS_ENDPOINT_URL']}/{account}/{STACK_NAME}-{queue}"

    def open_doors(self, *, containers: bool) -> dict[str, str]:
        """Let functions outside the local AWS reach the running stack; their settings.

        Postgres gets a port on loopback. With ``containers``, everything listens on the address of Docker's bridge too, and
        nowhere else. Doors that were opened to containers stay open until the stack ends.
        """
        state = self.running()
        if state is None:
            raise Failed("no local stack runs here; start it with: make up CONTAINERS=1 (without Docker: make up)")
        bridge = doors.bridge_address() if containers else None
        if containers and bridge is None and sys.platform == "linux":
            raise Failed(
                f"Docker's bridge {doors.BRIDGE} has no address here: start Docker, then: make up CONTAINERS=1"
            )
        if "settings" not in state.get("doors", {}) or bridge not in (None, state["doors"]["bridge"]):
            self._relay(state, bridge)
        settings: dict[str, str] = state["doors"]["settings"]
        return settings

    def _relay(self, state: dict[str, Any], bridge: str | None) -> None:
        environment: dict[str, str] = state["environment"]
        before = state.get("doors", {})
        if "relay" in state["processes"]:
            self._stop(state, "relay")
        url, unix = environment["DATABASE_URL"], doors.socket_of(environment["DATABASE_URL"])
        port, password = before.get("port") or free_port(), before.get("password") or doors.new_password()
        # A server of the user's own may listen on the bridge already.
        ports = [n for n in doors.loopback_ports(environment) if bridge is not None and not _connects(bridge, n)]
        command = [sys.executable, "-m", "local.relay", *(f"--port={number}" for number in ports)]
        if unix is not None:
            url = doors.database_by_tcp(url, port, password)
            command += [f"--postgres-port={port}", f"--postgres-socket={unix}"]
        if bridge is not None:
            command += [f"--bridge={bridge}"]
        state["doors"] = {
            "bridge": bridge,
            "port": port,
            "password": password,
            "settings": doors.for_containers(environment, url),
        }
        places = [("127.0.0.1", port)] if unix is not None else []
        places += [(bridge, number) for number in ports] if bridge else []
        if places:
            _say(f"relay for containers, on {bridge}" if bridge else "relay for Postgres, on loopback")
            self._spawn(state, "relay", command, {"RELAY_PASSWORD": password})
            self._wait(state, "relay", lambda: all(_connects(*place) for place in places))
        self._save(state)

    def down(self) -> None:
        """Stop every process of this stack. Postgres' data stays."""
        with self._locked():
            self._down()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One `make up` or `make down` of this stack at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _stop(self, state: dict[str, Any], name: str) -> None:
        """With all of its group, which may outlive it."""
        if not is_anothers(state, name):
            _stop(state["processes"][name])
        del state["processes"][name]

    def _down(self) -> None:
        state = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {"processes": {}}
        for name in list(state["processes"]):
            self._stop(state, name)
        if state.get("postgres"):
            postgres.stop(Path(state["postgres"]))
        self.file.unlink(missing_ok=True)

    def _spawn(self, state: dict[str, Any], name: str, command: list[str], environment: dict[str, str]) -> None:
        with (self.logs / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                # The functions inherit the environment. Values that belong in their secrets must not be in it.
                env={**{n: v for n, v in os.environ.items() if n not in SECRETS}, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        state["processes"][name] = process.pid
        state.setdefault("began", {})[name] = psutil.Process(process.pid).create_time()
        self._save(state)

    def _wait(self, state: dict[str, Any], name: str, ready: Any) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if not is_alive(state["processes"][name]) or time.monotonic() > deadline:
                raise Failed(f"{name} did not start; see {self.logs / f'{name}.log'}")
            time.sleep(0.1)

    def _run(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise Failed(f"{' '.join(command[:2])} failed; see {log}\n{tail}")

    def _save(self, state: dict[str, Any]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(state, indent=1), encoding="utf-8")


def _secret(environment: dict[str, str], name: str, value: str) -> str:
    """Keep a secret in the local AWS, as a user would in AWS; its ARN."""
    client = boto3.client(
        "secretsmanager",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=REGION,
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    return str(client.create_secret(Name=f"{STACK_NAME}/{name}", SecretString=value)["ARN"])


def _for_the_local_aws(template: Path) -> None:
    """What the local AWS cannot take; only the built copy is changed.

    It hands a Number parameter to its SQS poller as text and then polls nothing; AWS converts the text. It does not know
    saved queries.
    """
    text = template.read_text(encoding="utf-8")
    changed, times = re.subn(r"MaximumConcurrency:\s+Ref: MaximumConcurrency", "MaximumConcurrency: 4", text)
    if times != 1:
        raise Failed(f"the built template {template} has no MaximumConcurrency by reference")
    template.write_text(changed, encoding="utf-8")
    monitoring = template.parent / "Monitoring/template.yaml"
    # A resource ends where the next line of its own indentation begins.
    queries = re.compile(r"^  \w+:\n    Type: AWS::Logs::QueryDefinition\n(?:    .*\n|\n)*", re.MULTILINE)
    monitoring.write_text(queries.sub("", monitoring.read_text(encoding="utf-8")), encoding="utf-8")


def _tools(environment: dict[str, str]) -> dict[str, str]:
    """With uv and sam on the path. SAM would ask every 5 s how a deployment goes, which takes less here."""
    path = os.pathsep.join((str(ROOT / ".venv/bin"), str(ROOT / ".venv-sam/bin"), environment["PATH"]))
    return {**environment, "PATH": path, "SAM_CLI_TELEMETRY": "0", "SAM_CLI_POLL_DELAY": "0.2"}


def _say(text: str) -> None:
    print(f"  {text} …", file=sys.stderr, flush=True)


def _wished(name: str) -> str | None:
    """What the user set for this stack; not what `make env` left in this shell of a stack, which may be another or gone."""
    value = os.environ.get(name)
    left = json.loads(os.environ.get(GIVEN_BY_A_STACK, "{}"))
    return None if value == left.get(name) else value


def _given(state: dict[str, Any], name: str, value: str) -> str:
    """A value that this stack made itself."""
    state.setdefault("given", {})[name] = value
    return value


def listens(pid: int, port: int) -> bool:
    """Whether this process or one below it listens on the port."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return any(
            each.status == psutil.CONN_LISTEN and each.laddr.port == port
            for one in family
            for each in one.net_connections("inet")
        )
    except psutil.NoSuchProcess:
        return False


def _stop(pid: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + 5
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if number is signal.SIGTERM and not is_alive(pid):
            # Workers of the local AWS may outlive it by a moment.
            continue


def machine_architecture() -> str:
    """The instruction set of this machine, as the template calls it."""
    return "arm64" if os.uname().machine in ("arm64", "aarch64") else "x86_64"


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - this machine's own address
            return int(response.status) == 200
    except OSError:
        return False


def _written(stack: Stack, file: Path) -> str:
    state = stack.running() or {}
    if sys.platform != "linux" or state.get("doors", {}).get("bridge"):
        return f"Wrote {file}. Functions in containers and without Docker reach the local stack with it."
    return f"Wrote {file}, for functions without Docker. Containers do not reach this stack: make up CONTAINERS=1"


def _next_steps(stack: Stack) -> str:
    """What somebody wants next who has just started a stack, to be pasted."""
    state = stack.running() or {}
    command = os.path.relpath(ROOT / ".venv/bin/backfill")
    return (
        "The local stack runs. Next:\n"
        f"  {command} add {_a_repository(state.get('environment', {}).get('GITHUB_API_URL', ''))}\n"
        f"  {command} status --watch\n"
        f"  {command} dashboard"
    )


def _a_repository(api_url: str) -> str:
    """The smallest that the simulator holds; where GitHub itself is asked, a small one that everybody may read."""
    try:
        with urllib.request.urlopen(f"{api_url}/_simulator/statistics", timeout=10) as response:  # noqa: S310
            held: dict[str, dict[str, int]] = json.load(response)["repositories"]
    except (OSError, ValueError, KeyError):
        return "octocat/Hello-World"
    return min(held, key=lambda name: held[name]["pull_requests"]) if held else "octocat/Hello-World"


def main() -> int:
    """Exit status 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m local.stack", description=__doc__)
    parser.add_argument("action", choices=["up", "down", "env", "env-file"])
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--containers", action="store_true", help="up: containers reach the stack by Docker's bridge")
    parser.add_argument("--file", type=Path, default=ROOT / "env.json", help="env-file: what to write")
    arguments = parser.parse_args()
    stack = Stack(arguments.folder)
    try:
        if arguments.action == "up":
            stack.up()
            if arguments.containers:
                stack.open_doors(containers=True)
            print(_next_steps(stack), file=sys.stderr)
        elif arguments.action == "down":
            stack.down()
        elif arguments.action == "env-file":
            doors.write(arguments.file, stack.open_doors(containers=False))
            print(_written(stack, arguments.file), file=sys.stderr)
        else:
            found = stack.running()
            if found is None:
                raise Failed("no local stack runs here; start it with: make up")
            exports = {**found["environment"], GIVEN_BY_A_STACK: json.dumps(found.get("given", {}))}
            for name, value in exports.items():
                print(f"export {name}={shlex.quote(value)}")
            # The commands of this checkout, and of its environment.
            print(f'export PATH={shlex.quote(str(ROOT / ".venv/bin"))}:"$PATH"')
    except Failed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
