"""The simulator's REST paths, which other tools are measured with: every row is there, page by page, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from local.simulator import Simulator, generate
from local.simulator.resolvers import held


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(generate(5, {"octo/rest": 45}), speed=5000) as running:
        yield running


def everything(url: str) -> list[dict[str, Any]]:
    """All pages, by GitHub's own links."""
    rows: list[dict[str, Any]] = []
    following: str | None = url
    while following:
        reply = requests.get(following, timeout=10)
        reply.raise_for_status()
        rows += reply.json()
        following = reply.links.get("next", {}).get("url")
    return rows


def test_every_row_that_graphql_has_is_in_the_pages_of_rest(simulator: Simulator) -> None:
    root = f"{simulator.url}/repos/octo/rest"
    pulls = everything(f"{root}/pulls?state=all&per_page=20")
    counted = {
        "pull_requests": len(pulls),
        "issue_comments": len(everything(f"{root}/issues/comments?per_page=100")),
        "review_comments": len(everything(f"{root}/pulls/comments?per_page=100")),
    }
    for kind in ("reviews", "commits", "files"):
        counted[kind] = sum(len(everything(f"{root}/pulls/{each['number']}/{kind}?per_page=100")) for each in pulls)
    assert counted == held(simulator.repositories["R_octo/rest"])


def test_rest_counts_its_requests_apart_from_the_points_of_graphql(simulator: Simulator) -> None:
    before = simulator.statistics()
    reply = requests.get(f"{simulator.url}/repos/octo/nowhere", timeout=10)
    after = simulator.statistics()
    assert (reply.status_code, reply.headers["x-ratelimit-resource"]) == (404, "core")
    assert after["rest_requests"] == before["rest_requests"] + 1
    assert after.get("points") == before.get("points")


def test_a_scripted_failure_meets_a_rest_request(simulator: Simulator) -> None:
    simulator.script({"status": 502, "body": "bad gateway"})
    assert requests.get(f"{simulator.url}/repos/octo/rest", timeout=10).status_code == 502
    assert requests.get(f"{simulator.url}/repos/octo/rest", timeout=10).status_code == 200


def test_a_label_has_the_same_number_wherever_it_is_shown(simulator: Simulator) -> None:
    """Tools key by these numbers: two labels under one would be a lost row of theirs that the simulator is to blame for."""
    pulls = everything(f"{simulator.url}/repos/octo/rest/pulls?state=all")
    shown = {(label["id"], label["node_id"]) for pull in pulls for label in pull["labels"]}
    assert len({number for number, _ in shown}) == len({node_id for _, node_id in shown}) == len(shown) > 1
