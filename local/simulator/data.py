"""Repositories in memory: real ones from JSON lines, or generated from a seed with the sizes that real ones have."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from local.simulator import timeline

Node = dict[str, Any]


@dataclass(slots=True)
class Repository:
    """One repository: its own fields, and its pull requests by number.

    ``hidden``: the token sees nothing of it. ``withheld``: its owner's list counts it and shows null in its place.
    """

    node: Node
    pull_requests: dict[int, Node]
    former_names: set[str] = field(default_factory=set)
    hidden: bool = False
    withheld: bool = False

    @property
    def full_name(self) -> str:
        return str(self.node["nameWithOwner"])

    # What happens on GitHub while a backfill runs. Everything is replaced, nothing changed in place: requests in flight
    # go on with what they began with.

    def rename(self, full_name: str) -> None:
        """A rename or a transfer: the old name leads to the new one."""
        owner, name = full_name.split("/")
        self.former_names = {*self.former_names, self.full_name.lower()}
        place = {"nameWithOwner": full_name, "name": name, "url": f"https://github.com/{full_name}"}
        self.node = {**self.node, **place, "owner": {**self.node["owner"], "login": owner}}

    def set(self, **fields: Any) -> None:
        """New values of the repository itself, as ``isArchived=True``."""
        self.node = {**self.node, **fields}

    def change(self, number: int, **fields: Any) -> None:
        """New values of a pull request, as of now."""
        changed = {**self.pull_requests[number], "updatedAt": _stamp(datetime.now(UTC)), **fields}
        self.pull_requests = {**self.pull_requests, number: changed}

    def open_pull_requests(self, count: int, seed: int = 0) -> list[int]:
        """Somebody opens pull requests, now; their numbers."""
        rng, now = random.Random(f"{seed}:{self.full_name}"), datetime.now(UTC)
        people = [_person(self.full_name, index, rng) for index in range(5)]
        first = max(self.pull_requests, default=0) + 1
        opened = {n: _pull_request(rng, self.full_name, n, now, people) for n in range(first, first + count)}
        for each in opened.values():
            each["updatedAt"] = _stamp(now)
            connect(each)
        self.pull_requests = {**self.pull_requests, **opened}
        return list(opened)

    def delete(self, *numbers: int) -> None:
        """GitHub staff removes pull requests."""
        self.pull_requests = {number: each for number, each in self.pull_requests.items() if number not in numbers}


def load(folder: Path) -> list[Repository]:
    """Every ``*.jsonl.gz`` of a folder: the first line is the repository, each other line a pull request."""
    repositories = []
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            node = json.loads(next(lines))
            repositories.append(_repository(node, [json.loads(line) for line in lines]))
    return repositories


def generate(seed: int, sizes: dict[str, int]) -> list[Repository]:
    """Repositories ``{"owner/name": pull requests}``; the same for the same seed."""
    return [_generated(random.Random(f"{seed}:{name}"), name, size) for name, size in sizes.items()]


def _repository(node: Node, pull_requests: list[Node]) -> Repository:
    owner = node["owner"] if isinstance(node["owner"], str) else node["owner"]["login"]
    node = {
        **node,
        "__typename": "Repository",
        "owner": {"__typename": "Organization", "login": owner, "id": f"O_{owner}"},
    }
    for pull_request in pull_requests:
        connect(pull_request)
    return Repository(node, {each["number"]: each for each in pull_requests})


def connect(pull_request: Node) -> None:
    """Turn ids into references: threads to their comments, comments to their review and to what they answer."""
    pull_request["__typename"] = "PullRequest"
    # The recorded repositories have none.
    pull_request.setdefault("timelineItems", timeline.events(pull_request))
    comments: dict[str, Node] = {}
    for review in pull_request["reviews"]:
        review["__typename"] = "PullRequestReview"
        for comment in review["comments"]:
            comments[comment["id"]] = comment
            comment["pullRequestReview"] = {"id": review["id"]}
            answered = comment["replyTo"]
            if answered is not None and not isinstance(answered, dict):
                comment["replyTo"] = {"fullDatabaseId": answered}
    for thread in pull_request["reviewThreads"]:
        thread["__typename"] = "PullRequestReviewThread"
        thread.setdefault("isResolved", False)
        thread.setdefault("isOutdated", False)
        thread.setdefault("originalLine", thread["line"])
        thread["comments"] = [comments[each] if isinstance(each, str) else each for each in thread["comments"]]
        if "resolvedBy" not in thread:
            thread.update(timeline.resolution(pull_request, thread))


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _generated(rng: random.Random, full_name: str, size: int) -> Repository:
    owner, name = full_name.split("/")
    start = datetime(2018, 1, 1, tzinfo=UTC)
    people = [_person(full_name, index, rng) for index in range(max(5, size // 10))]
    numbers = sorted(rng.sample(range(1, 2 * size + 1), size))
    step = timedelta(days=2000) / max(1, 2 * size)
    pull_requests = [_pull_request(rng, full_name, n, start + n * step, people) for n in numbers]
    node = {
        "id": f"R_{full_name}",
        "databaseId": rng.randrange(10**8),
        "nameWithOwner": full_name,
        "owner": owner,
        "name": name,
        "isPrivate": False,
        "isFork": False,
        "isArchived": False,
        "createdAt": _stamp(start),
        "url": f"https://github.com/{full_name}",
        "defaultBranchRef": {"name": "main"},
    }
    return _repository(node, pull_requests)


def _person(full_name: str, index: int, rng: random.Random) -> Node:
    kind = "Bot" if index % 11 == 3 else "Mannequin" if index % 23 == 5 else "User"
    login = f"{full_name.split('/')[1]}-{kind.lower()}{index}"
    return {
        "__typename": kind,
        "id": f"{kind[0]}_{full_name}_{index}",
        "databaseId": rng.randrange(10**8),
        "login": login,
        "avatarUrl": f"https://avatars.example/{login}",
        "url": f"https://github.com/{login}",
    }


def _size(rng: random.Random, mean: float, most: int) -> int:
    """Sizes like GitHub's: many empty, a few very long (log-normal, cut off)."""
    return min(most, int(rng.lognormvariate(0, 1.2) * mean / 2.05))


def _pull_request(rng: random.Random, full_name: str, number: int, created: datetime, people: list[Node]) -> Node:
    node_id = f"PR_{full_name}_{number}"
    url = f"https://github.com/{full_name}/pull/{number}"
    users = [person for person in people if person["__typename"] == "User"]
    clock = created

    def tick() -> str:
        nonlocal clock
        clock += timedelta(minutes=rng.randrange(1, 600))
        return _stamp(clock)

    def somebody() -> Node | None:
        return None if rng.random() < 0.02 else rng.choice(people)

    def oid() -> str:
        return f"{rng.getrandbits(160):040x}"

    def said(kind: str, index: int) -> Node:
        moment = tick()
        return {
            "id": f"{kind}_{full_name}_{number}_{index}",
            "fullDatabaseId": str(rng.randrange(10**12)),
            "body": f"Remark {index}" + ("\x00 with a NUL" if rng.random() < 0.01 else ""),
            "createdAt": moment,
            "updatedAt": moment,
            "url": f"{url}#{kind.lower()}{index}",
            "authorAssociation": rng.choice(["MEMBER", "CONTRIBUTOR", "NONE"]),
            "author": somebody(),
        }

    def review_comment(index: int, first: int | None) -> Node:
        return {
            **said("PRRC", index),
            "path": f"src/file{index % 7}.c",
            "position": None,
            "line": rng.randrange(500),
            "originalLine": rng.randrange(500),
            "diffHunk": "@@ -1 +1 @@",
            "commit": {"oid": oid()},
            "originalCommit": {"oid": oid()},
            "outdated": rng.random() < 0.3,
            "replyTo": first,
        }

    comments = [said("IC", index) for index in range(_size(rng, 5.2, 159))]
    reviews = [
        {
            **said("PRR", index),
            "state": rng.choice(["APPROVED", "COMMENTED"]),
            "submittedAt": _stamp(clock),
            "commit": {"oid": oid()},
            "comments": [],
        }
        for index in range(_size(rng, 4.5, 300))
    ]
    count = _size(rng, 4.0, 440) if reviews else 0
    threads: list[Node] = []
    for index in range(count):
        answer = bool(threads) and rng.random() < 0.4
        thread: Node = (
            rng.choice(threads)
            if answer
            else {
                "id": f"PRRT_{full_name}_{number}_{index}",
                "path": "src/a.c",
                "line": 1,
                "isResolved": False,
                "isOutdated": False,
                "diffSide": "RIGHT",
                "comments": [],
            }
        )
        comment = review_comment(index, thread["comments"][0]["fullDatabaseId"] if answer else None)
        thread["comments"].append(comment)
        rng.choice(reviews)["comments"].append(comment)
        if not answer:
            threads.append(thread)
    files = [
        {
            "path": f"src/dir{index}/file.c",
            "changeType": "MODIFIED",
            "additions": rng.randrange(50),
            "deletions": rng.randrange(50),
        }
        for index in range(max(1, _size(rng, 3.7, 755)))
    ]
    commits = [
        {
            "id": f"PRC_{full_name}_{number}_{index}",
            "commit": {
                "oid": oid(),
                "messageHeadline": f"Step {index}",
                "authoredDate": _stamp(created),
                "committedDate": _stamp(created),
                "author": {"name": "Somebody", "user": rng.choice(users) if rng.random() < 0.9 else None},
            },
        }
        for index in range(max(1, _size(rng, 5.5, 250)))
    ]
    reviewers: list[Node] = [rng.choice(users)] if rng.random() < 0.1 else []
    if rng.random() < 0.02:
        reviewers.append(
            {
                "__typename": "Team",
                "id": f"T_{full_name}",
                "databaseId": 7,
                "slug": "core",
                "combinedSlug": f"{full_name.split('/')[0]}/core",
                "avatarUrl": None,
                "url": f"https://github.com/orgs/{full_name}/teams/core",
            }
        )
    merged = rng.random() < 0.7
    end = tick()
    return {
        "id": node_id,
        "fullDatabaseId": str(rng.randrange(10**10)),
        "number": number,
        "url": url,
        "title": f"Change number {number}",
        "body": f"Why {number}",
        "state": "MERGED" if merged else rng.choice(["OPEN", "CLOSED"]),
        "isDraft": False,
        "locked": False,
        "merged": merged,
        "createdAt": _stamp(created),
        "updatedAt": end,
        "closedAt": end if merged else None,
        "mergedAt": end if merged else None,
        "additions": sum(file["additions"] for file in files),
        "deletions": sum(file["deletions"] for file in files),
        "changedFiles": len(files),
        "authorAssociation": "CONTRIBUTOR",
        "author": somebody(),
        "mergedBy": somebody() if merged else None,
        "baseRefName": "main",
        "baseRefOid": oid(),
        "headRefName": f"topic-{number}",
        "headRefOid": oid(),
        "isCrossRepository": rng.random() < 0.8,
        "headRepository": None if rng.random() < 0.2 else {"nameWithOwner": full_name},
        "mergeCommit": {"oid": oid()} if merged else None,
        "milestone": {"number": 1, "title": "1.0"} if rng.random() < 0.2 else None,
        "totalCommentsCount": len(comments) + count,
        "labels": [
            {"id": f"L_{full_name}_{n}", "name": f"label {n}", "color": "ededed"} for n in range(rng.randrange(3))
        ],
        "assignees": [rng.choice(users)] if rng.random() < 0.1 else [],
        "reviewRequests": reviewers,
        "closingIssuesReferences": [{"number": number + 1}] if rng.random() < 0.1 else [],
        "comments": comments,
        "reviews": reviews,
        "reviewThreads": threads,
        "commits": commits,
        "files": files,
    }
