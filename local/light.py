"""Pull requests that cost GitHub the usual time and this machine next to none: for tests in which time matters."""

from __future__ import annotations

from local.simulator import Repository, generate


def light(size: int, name: str = "octo/light") -> list[Repository]:
    """One repository of them."""
    return lightened(generate(3, {name: size}))


def lightened(repositories: list[Repository]) -> list[Repository]:
    """The same ones, whose pull requests have at most one of everything and no reviews."""
    for repository in repositories:
        for pull_request in repository.pull_requests.values():
            pull_request["reviews"], pull_request["reviewThreads"] = [], []
            for connection in ("comments", "commits", "files", "labels"):
                del pull_request[connection][1:]
            pull_request["totalCommentsCount"] = len(pull_request["comments"])
    return repositories
