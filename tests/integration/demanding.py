"""A GitHub that refuses what a test names, and that changes while it is asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from local.simulator import Repository, Simulator
from local.simulator.server import Answer
from local.simulator.viewers import EVERYBODY, Viewer

_RESOLVER = {
    "__typename": "User",
    "id": "U_resolver",
    "databaseId": 77,
    "login": "resolver",
    "avatarUrl": "a",
    "url": "u",
}
_BAD_GATEWAY = Answer(502, {}, b"<html><h1>502 Bad Gateway</h1></html>")


class Demanding(Simulator):
    """``refuses`` says of a query's text whether it ends in a 502; ``before`` runs before each other one is answered."""

    refuses: Callable[[str], bool] = staticmethod(lambda query: False)
    before: Callable[[str], object] = staticmethod(lambda query: None)

    def answer(self, body: dict[str, Any], viewer: Viewer = EVERYBODY) -> Answer:
        if self.refuses(body["query"]):
            self.served["requests"] += 1
            self.served["refused"] += 1
            return _BAD_GATEWAY
        self.before(body["query"])
        return super().answer(body, viewer)


def asked(query: str) -> dict[int, str]:
    """What a detail query asks of each pull request, by number."""
    text, *fragments = query.split(" fragment ")
    named = {each.split(" ", 1)[0]: each.partition("{")[2].rpartition("}")[0] for each in fragments}
    # Connections are fragments of their own, which hold a fragment of what is asked of a page.
    whole = re.compile(r"\.\.\.([a-z]\d+(?:x\d+)?|\w+Page|\w+With\d+)\b")
    for _ in range(2):
        text = whole.sub(lambda spread: named[spread[1]], text)
    found = re.split(r"pullRequest\(number: (\d+)\)", text)
    return {int(number): fields for number, fields in zip(found[1::2], found[2::2], strict=True)}


def is_detail(query: str) -> bool:
    """A query that reads pull requests whole, or more of one."""
    return "query PullRequestDetails" in query and "...pullRequest" in query


def comments(repository: Repository, number: int, count: int) -> list[dict[str, Any]]:
    """So many issue comments."""
    sample = next(each for node in repository.pull_requests.values() for each in node["comments"])
    return [
        {**sample, "id": f"IC_{number}_{index}", "fullDatabaseId": str(number * 10**6 + index), "body": f"No. {index}"}
        for index in range(count)
    ]


def commits(number: int, count: int) -> list[dict[str, Any]]:
    """So many commits."""
    return [
        {
            "id": f"PRC_{number}_{index}",
            "commit": {
                "oid": f"{number * 10**6 + index:040x}",
                "messageHeadline": f"Step {index}",
                "authoredDate": "2020-01-01T00:00:00Z",
                "committedDate": "2020-01-01T00:00:00Z",
                "author": {"name": "Somebody", "user": None},
            },
        }
        for index in range(count)
    ]


def labelled(repository: Repository, number: int, count: int) -> list[dict[str, Any]]:
    """So many events of a timeline."""
    label = {"id": "L_many", "name": "many", "color": "ffffff"}
    actor = repository.pull_requests[number]["author"]
    return [
        {
            "__typename": ("LabeledEvent", "UnlabeledEvent")[index % 2],
            "id": f"LE_{number}_{index}",
            "createdAt": f"2020-01-01T{index // 3600:02}:{index // 60 % 60:02}:{index % 60:02}Z",
            "actor": actor,
            "label": label,
        }
        for index in range(count)
    ]


def files(count: int) -> list[dict[str, Any]]:
    """So many files."""
    return [
        {"path": f"src/{index}.c", "changeType": "ADDED", "additions": index, "deletions": 0} for index in range(count)
    ]


def reviews(repository: Repository, number: int, sizes: list[int], threads: int) -> dict[str, Any]:
    """Reviews with so many review comments each, dealt out to so many threads; the fields of the pull request."""
    sample = next(each for node in repository.pull_requests.values() for r in node["reviews"] for each in r["comments"])
    review = next(each for node in repository.pull_requests.values() for each in node["reviews"])
    made: list[dict[str, Any]] = []
    every: list[dict[str, Any]] = []
    for index, size in enumerate(sizes):
        node_id = f"PRR_{number}_{index}"
        said = [
            {
                **sample,
                "id": f"PRRC_{number}_{index}_{place}",
                "fullDatabaseId": str(number * 10**6 + len(every) + place),
                "pullRequestReview": {"id": node_id},
                "replyTo": None,
            }
            for place in range(size)
        ]
        made.append({**review, "id": node_id, "fullDatabaseId": str(number * 10**6 + index), "comments": said})
        every += said
    thread = {"__typename": "PullRequestReviewThread", "path": "a.c", "line": 1, "originalLine": 1, "isOutdated": False}
    thread |= {"isResolved": True, "resolvedBy": {**_RESOLVER}}
    dealt = [{**thread, "id": f"PRRT_{number}_{index}", "comments": every[index::threads]} for index in range(threads)]
    kept = len(repository.pull_requests[number]["comments"])
    return {"reviews": made, "reviewThreads": dealt, "totalCommentsCount": kept + len(every)}
