"""Sends every tool to the simulator, even with a fixed GitHub address, by its own ``sitecustomize``.

A tool may take addresses in GitHub's replies apart, so they name GitHub, as GitHub's do.
"""

import os
import urllib.request
from typing import Any

GITHUB, SIMULATOR = "https://api.github.com", os.environ["GITHUB_SIMULATOR"]

_open = urllib.request.urlopen


def _opened(request: Any, *arguments: Any, **options: Any) -> Any:
    if isinstance(request, urllib.request.Request):
        request.full_url = request.full_url.replace(GITHUB, SIMULATOR)
    return _open(request, *arguments, **options)


urllib.request.urlopen = _opened  # type: ignore[assignment]

try:
    import requests
except ImportError:
    pass
else:
    _send = requests.Session.send

    def _redirected(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        request.url = (request.url or "").replace(GITHUB, SIMULATOR)
        response = _send(self, request, **options)
        response._content = response.content.replace(SIMULATOR.encode(), GITHUB.encode())
        if "link" in response.headers:
            response.headers["link"] = response.headers["link"].replace(SIMULATOR, GITHUB)
        return response

    requests.Session.send = _redirected  # type: ignore[method-assign]
