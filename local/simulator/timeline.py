"""The timeline of a pull request that was recorded or generated without one: what its own facts leave no choice about, and the
rest drawn by its number, so that it is the same each time.

It agrees with the pull request: who was labelled has the label, who merged is who merged, and the last word on draft and on
open or closed is the pull request's own.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

Node = dict[str, Any]

# Items of other types, which GitHub counts whatever is asked for.
OTHER_ITEMS = 3
_WORDS = {
    "ReviewRequestedEvent": "REVIEW_REQUESTED",
    "ReviewRequestRemovedEvent": "REVIEW_REQUEST_REMOVED",
    "ReadyForReviewEvent": "READY_FOR_REVIEW",
    "ConvertToDraftEvent": "CONVERT_TO_DRAFT",
    "HeadRefForcePushedEvent": "HEAD_REF_FORCE_PUSHED",
    "LabeledEvent": "LABELED",
    "UnlabeledEvent": "UNLABELED",
    "AssignedEvent": "ASSIGNED",
    "UnassignedEvent": "UNASSIGNED",
    "MergedEvent": "MERGED",
    "ClosedEvent": "CLOSED",
    "ReopenedEvent": "REOPENED",
}
# Pull requests that began as a draft, that were pushed over, and whose first reviewer was asked and asked no longer; and review
# threads that are resolved.
_BEGAN_AS_DRAFT, _FORCE_PUSHED, _REMOVED, _RESOLVED = 0.25, 0.3, 0.1, 0.6
# Pull requests on which each of these was done and undone: a label, an assignee, closing, a draft.
_UNDONE = 0.1


def item_type(event: Node) -> str:
    """GitHub's word for the type of an event."""
    return f"{_WORDS[event['__typename']]}_EVENT"


def events(pull_request: Node) -> list[Node]:
    """In the order of time."""
    rng = random.Random(f"timeline:{pull_request['id']}")
    author, created = pull_request["author"], pull_request["createdAt"]
    end = pull_request["closedAt"] or pull_request["updatedAt"]
    reviews = [each for each in pull_request["reviews"] if each["submittedAt"]]
    first = min((each["submittedAt"] for each in reviews), default=end)
    found: list[tuple[str, str, Node]] = []

    def add(kind: str, moment: str, **fields: Any) -> None:
        found.append((moment, kind, {"actor": author, **fields}))

    def done(kind: str, undone: str, **fields: Any) -> None:
        """Something that was done and undone before the first review."""
        moment = _between(rng, created, first)
        add(kind, moment, **fields)
        add(undone, _between(rng, moment, first), **fields)

    for label in pull_request["labels"]:
        add("LabeledEvent", _between(rng, created, end), label=label)
    for assignee in pull_request["assignees"]:
        add("AssignedEvent", _between(rng, created, end), assignee=assignee)
    for reviewer in pull_request["reviewRequests"]:
        add("ReviewRequestedEvent", _between(rng, created, end), requestedReviewer=reviewer)
    if reviews and rng.random() < _REMOVED:
        asked = _between(rng, created, first)
        reviewer = next(
            (each["author"] for each in reviews if (each["author"] or {}).get("__typename") == "User"), None
        )
        add("ReviewRequestedEvent", asked, requestedReviewer=reviewer)
        add("ReviewRequestRemovedEvent", _between(rng, asked, first), requestedReviewer=reviewer)
    commits = [each["commit"]["oid"] for each in pull_request["commits"]]
    if commits and rng.random() < _FORCE_PUSHED:
        before, after = f"{rng.getrandbits(160):040x}", commits[0]
        oids = {"beforeCommit": {"oid": before}, "afterCommit": {"oid": after}}
        add("HeadRefForcePushedEvent", _between(rng, created, end), **oids)
    if pull_request["isDraft"]:
        add("ConvertToDraftEvent", _between(rng, created, end))
    else:
        if rng.random() < _BEGAN_AS_DRAFT:
            add("ReadyForReviewEvent", _between(rng, created, first))
        elif rng.random() < _UNDONE:
            done("ConvertToDraftEvent", "ReadyForReviewEvent")
    label = {"__typename": "Label", "id": f"L_wip_{pull_request['id']}", "name": "wip", "color": "ededed"}
    for kind, undone, fields in (
        ("LabeledEvent", "UnlabeledEvent", {"label": label}),
        ("AssignedEvent", "UnassignedEvent", {"assignee": author}),
        ("ClosedEvent", "ReopenedEvent", {}),
    ):
        if rng.random() < _UNDONE:
            done(kind, undone, **fields)
    if pull_request["merged"] and pull_request["mergedAt"]:
        add("MergedEvent", pull_request["mergedAt"], actor=pull_request["mergedBy"])
    if pull_request["closedAt"]:
        add("ClosedEvent", pull_request["closedAt"], actor=pull_request["mergedBy"] or author)
    return [
        {"__typename": kind, "id": f"{kind[0]}E_{pull_request['id']}_{index}", "createdAt": moment, **fields}
        for index, (moment, kind, fields) in enumerate(sorted(found, key=lambda each: each[0]))
    ]


def resolution(pull_request: Node, thread: Node) -> Node:
    """Whether a thread is resolved, and by whom: by the author of a pull request that has ended."""
    rng = random.Random(f"resolution:{thread['id']}")
    author = pull_request["author"] or {}
    is_resolved = bool(pull_request["closedAt"]) and rng.random() < _RESOLVED
    resolver = author if is_resolved and author.get("__typename") == "User" else None
    return {"isResolved": is_resolved, "resolvedBy": resolver}


def _between(rng: random.Random, begin: str, end: str) -> str:
    start, stop = (datetime.fromisoformat(each.replace("Z", "+00:00")) for each in (begin, end))
    moment = start + timedelta(seconds=int(rng.random() * max(0.0, (stop - start).total_seconds())))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
