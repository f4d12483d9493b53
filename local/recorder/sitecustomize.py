"""Records the AWS calls of functions: Python imports a ``sitecustomize`` of PYTHONPATH by itself, before the function.

The layer's path is not known yet, so the handler is registered when botocore is imported. A call is recorded before it is
sent, also if it fails. In a process that is not a function nothing happens.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

FUNCTION, FILE = "AWS_LAMBDA_FUNCTION_NAME", "AWS_CALLS_FILE"
# botocore copies this module's list of handlers into every session that it makes.
HANDLERS = "botocore.handlers"
# Parameters that name a resource. Bodies and secrets stay out of the file.
NAMES = ("arn", "id", "name", "url")


def record(params: Mapping[str, Any], model: Any, **_: Any) -> None:
    """Append one call; short lines of several processes do not mix, because of O_APPEND."""
    named = {name: value for name, value in params.items() if isinstance(value, str) and name.lower().endswith(NAMES)}
    line = {
        "function": os.environ[FUNCTION],
        "service": model.service_model.endpoint_prefix,
        "operation": model.name,
        "parameters": named,
    }
    descriptor = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


class WhenImported(MetaPathFinder, Loader):
    """Finds botocore's handlers as Python would, and adds one to them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != HANDLERS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            self._real = spec.loader
            spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        vars(module)["BUILTIN_HANDLERS"].append(("before-parameter-build", record))


if FUNCTION in os.environ and FILE in os.environ:
    sys.meta_path.insert(0, WhenImported())
