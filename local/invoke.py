"""One function on this machine, as it is packaged: `python -m local.invoke planner`.

Where Docker runs, by `sam local invoke`. Elsewhere the same built files run under the Lambda runtime interface emulator that the
SAM CLI brings for its containers, with AWS's own runtime client, in an environment that holds exactly Lambda's own packages.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from samtranslator.yaml_helper import yaml_parse

from local import doors
from local.stack import REGION, ROOT, Failed, Stack, default_folder, free_port, machine_architecture

FUNCTIONS = {
    "planner": ("PlannerFunction", "planner-dry-run.json"),
    "chunk-worker": ("ChunkWorkerFunction", "chunk_worker.json"),
    "recovery": ("RecoveryFunction", "recovery.json"),
    "console": ("ConsoleFunction", "console-status.json"),
    "widget": ("WidgetFunction", "widget.json"),
    "migrator": ("MigratorFunction", "migrator.json"),
}
PYTHON = ROOT / ".venv-lambda/bin/python"
START_SECONDS = 30
INVOKE_SECONDS = 900


class Emulator:
    """A built function under the runtime interface emulator, between ``with`` and its end.

    ``template`` is the output of `sam build`; ``overrides`` are the function's settings. As with `sam local invoke --env-vars`,
    only names that the template gives the function are set.
    """

    def __init__(self, template: Path, function: str, overrides: Mapping[str, str], log: Path) -> None:
        built: dict[str, Any] = yaml_parse(template.read_text(encoding="utf-8"))
        properties = built["Resources"][function]["Properties"]
        shared = built["Globals"]["Function"]
        code = template.parent / properties["CodeUri"]
        names = {**shared["Environment"]["Variables"], **properties.get("Environment", {}).get("Variables", {})}
        self._handler: str = shared["Handler"]
        self._folder = code
        self._log = log
        self._environment = {
            **{name: overrides.get(name, value if isinstance(value, str) else "") for name, value in names.items()},
            **_aws_settings(overrides),
            "PATH": os.defpath,
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": str(code),
            "PYTHONPATH": str(template.parent / "SharedLayer" / "python"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_LAMBDA_FUNCTION_NAME": function,
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(INVOKE_SECONDS),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(shared["MemorySize"]),
        }
        self._port = free_port()

    def __enter__(self) -> Emulator:
        machine = machine_architecture()
        (emulator,) = (ROOT / ".venv-sam/lib").glob(
            f"python3*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    str(emulator),
                    "--runtime-interface-emulator-address",
                    f"127.0.0.1:{self._port}",
                    "--runtime-api-address",
                    f"127.0.0.1:{free_port()}",
                    str(PYTHON),
                    "-m",
                    "awslambdaric",
                    self._handler,
                ],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        # The emulator and the runtime that it started.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def invoke(self, event: Any) -> Any:
        """The function's answer. Raises Failed with the error that it raised, as Lambda shows it."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/2015-03-31/functions/function/invocations", data=json.dumps(event).encode()
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=INVOKE_SECONDS) as response:  # noqa: S310
                    answer = json.load(response)
                break
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"the emulator does not answer ({error}); see {self._log}") from None
                time.sleep(0.05)
        return without_error(answer)


def _aws_settings(overrides: Mapping[str, str]) -> dict[str, str]:
    """Region and credentials as `sam local invoke` gives them: those of this machine, else placeholders."""
    found = {name: os.environ[name] for name in os.environ if name.startswith("AWS_") and name != "AWS_ENDPOINT_URL"}
    session = boto3.Session()
    region = overrides.get("AWS_REGION") or os.environ.get("AWS_REGION") or session.region_name or REGION
    credentials = session.get_credentials()
    found.update(AWS_REGION=region, AWS_DEFAULT_REGION=region)
    if credentials is None:
        found.update(AWS_ACCESS_KEY_ID="defaultkey", AWS_SECRET_ACCESS_KEY="defaultsecret")  # noqa: S106 - as the SAM CLI
    else:
        frozen = credentials.get_frozen_credentials()
        found.update(AWS_ACCESS_KEY_ID=frozen.access_key, AWS_SECRET_ACCESS_KEY=frozen.secret_key)
        if frozen.token:
            found["AWS_SESSION_TOKEN"] = frozen.token
    return found


def read_json(file: Path, what: str) -> Any:
    """The content of a file. Raises Failed with the reason and the remedy."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError as error:  # also text that is not UTF-8
        reason = f"not JSON: {error}"
    raise Failed(f"{what} {file} cannot be read: {reason}. Samples are in events/")


def settings_of_file(function: str, file: Path) -> dict[str, str]:
    """The function's settings in a file as `sam local invoke --env-vars` takes it. Raises Failed."""
    given = read_json(file, "the env file")
    wrong = Failed(f'the env file {file} must be {{"Parameters": {{"NAME": "value"}}}}, as events/env.example.json is')
    if not isinstance(given, dict):
        raise wrong
    found: dict[str, str] = {}
    for part in (given.get("Parameters", {}), given.get(function, {})):
        if not isinstance(part, dict):
            raise wrong
        # A function's environment holds text alone.
        found.update((name, str(value)) for name, value in part.items())
    return found


def settings(function: str, file: Path | None) -> dict[str, str]:
    """The function's settings: of an env file, or those of the running local stack."""
    if file is not None:
        return settings_of_file(function, file)
    found = Stack(default_folder()).running()
    if found is None:
        raise Failed("nowhere to run: give ENV=env.json (see events/env.example.json), or start a local stack: make up")
    environment: dict[str, str] = found["environment"]
    return environment


def in_container(function: str, event: Path, env_file: Path) -> Any:
    """The function's answer in Lambda's container. Raises Failed with its error: `sam local invoke` ends with 0 then."""
    stack = Stack(default_folder())
    template = stack.build_for_lambda()
    command = [str(ROOT / ".venv-sam/bin/sam"), "local", "invoke", function, "--template-file", str(template)]
    command += ["--event", str(event), "--env-vars", str(env_file)]
    command += ["--config-file", str(ROOT / "samconfig.toml")]
    command += ["--parameter-overrides", f"Architecture={machine_architecture()}"]
    region = settings_of_file(function, env_file).get("AWS_REGION")
    command += ["--region", region] if region else []
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    return answer_of_sam(done.returncode, done.stdout.decode(errors="replace"))


def answer_of_sam(status: int, output: str) -> Any:
    """The answer in the output of `sam local invoke`. A missing answer, as after a timeout, is a failure."""
    if status:
        raise Failed(f"sam local invoke ended with {status}; its message stands above")
    try:
        answer = json.loads(output)
    except ValueError:
        raise Failed(f"the function gave no answer; the reason stands above. Printed: {output.strip()!r}") from None
    return without_error(answer)


def without_error(answer: Any) -> Any:
    """The answer. Raises Failed where it is the error that the function raised, as Lambda shows it."""
    if isinstance(answer, dict) and "errorType" in answer:
        raise Failed(f"{answer['errorType']}: {answer.get('errorMessage', '')}")
    return answer


def main() -> int:
    """Exit status 0 done, 1 failed."""
    parser = argparse.ArgumentParser(prog="python -m local.invoke", description=__doc__)
    parser.add_argument("function", choices=FUNCTIONS)
    parser.add_argument("--event", type=Path, help="default: the function's sample in events/")
    parser.add_argument("--env-vars", type=Path, help="default: the settings of the running local stack")
    arguments = parser.parse_args()
    function, sample = FUNCTIONS[arguments.function]
    file: Path = arguments.event or ROOT / "events" / sample
    try:
        event = read_json(file, "the event")
        environment = settings(function, arguments.env_vars)
        os.environ.update({name: value for name, value in environment.items() if name.startswith("AWS_")})
        if arguments.env_vars is not None and _docker_runs():
            answer = in_container(function, file, arguments.env_vars)
        else:
            stack = Stack(default_folder())
            template = stack.build()
            log = stack.logs / f"{arguments.function}.log"
            with Emulator(template, function, doors.without_containers(environment), log) as emulator:
                answer = emulator.invoke(event)
        print(json.dumps(answer, indent=2))
    except Failed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


def _docker_runs() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    sys.exit(main())
