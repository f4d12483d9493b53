"""Flaws: places of a pull request that GitHub does not give, by GitHub's own names, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backfill.error_codes import ErrorCode
from backfill.github import packing
from backfill.github.records import Node
from backfill.github.refusals import Path, Refusal
from backfill.github.tasks import Task

LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Flaw:
    """What lacks at ``place``. ``is_definite``: GitHub gave a reason that asking again does not change."""

    place: str
    code: str
    reason: str
    is_definite: bool = field(default=True, compare=False)

    @classmethod
    def of(cls, place: str, refusal: Refusal) -> Flaw:
        """A flaw for which GitHub gave the reason."""
        return cls(place, refusal.code, refusal.reason, refusal.is_definite)

    def as_json(self) -> dict[str, str]:
        """An object of the column ``incomplete``."""
        return {"place": self.place, "code": self.code, "reason": self.reason}


def of_page(place: str, page: Node | None, refused: Mapping[Path, Refusal]) -> list[Flaw]:
    """What a page of a connection lacks."""
    found = [Flaw.of(place, each) for each in refused.values()]
    if page is None:
        return found or [_doubt(place, ErrorCode.NULL, f"GitHub gives null in place of {place}")]
    explained = {path[1] for path in refused if len(path) > 1 and path[0] == "nodes"}
    nodes = page["nodes"]
    if any(node is None and index not in explained for index, node in enumerate(nodes)):
        found.append(_doubt(place, ErrorCode.NULL, f"GitHub gives null in place of a node of {place}"))
    if any(_is_hidden_team(node) for node in nodes):
        reason = "a team was requested, and the token lacks read:org"
        found.append(Flaw(place, ErrorCode.INSUFFICIENT_SCOPES, reason))
    return found


def of_end(place: str, page: Node, task: Task) -> list[Flaw]:
    """Whether a connection ends, or goes on, as its own count and cursors say."""
    info, total = page["pageInfo"], page["totalCount"]
    if info["hasNextPage"]:
        if task.goes_on_after(info["endCursor"]):
            return []
        return [_doubt(place, ErrorCode.CURSOR, f"GitHub says that {place} go on, and gives no cursor that does")]
    read = task.offset + len(page["nodes"])
    if place in packing.UNCOUNTED:
        return []
    if read < min(total, packing.ENDS.get(place, total)):
        return [_doubt(place, ErrorCode.TRUNCATED, f"GitHub counts {total} {place} and gives {read}")]
    return []


def place_of(path: Path) -> str:
    """A path by the names in it."""
    return ".".join(step for step in path if isinstance(step, str) and step != "nodes")


def _doubt(place: str, code: ErrorCode, reason: str) -> Flaw:
    return Flaw(place, code, reason, is_definite=False)


def _is_hidden_team(node: Node | None) -> bool:
    """A team of which only the type was asked (documents: withheld)."""
    reviewer = (node or {}).get("requestedReviewer") or {}
    return reviewer.get("__typename") == "Team" and "id" not in reviewer
