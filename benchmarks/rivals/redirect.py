"""Sends every tool to the simulator, also those whose address of GitHub is fixed: a ``sitecustomize`` of its own."""

import os
from typing import Any

import requests

_send = requests.Session.send


def _redirected(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
    request.url = (request.url or "").replace("https://api.github.com", os.environ["GITHUB_SIMULATOR"])
    return _send(self, request, **options)


requests.Session.send = _redirected  # type: ignore[method-assign]
