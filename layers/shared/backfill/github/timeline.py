"""The timeline's events: GitHub's types and item types, the words that the table stores, and what a query selects of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """``type`` in GitHub's schema; ``kind`` in the table; ``selects`` what an event of this type alone has."""

    type: str
    kind: str
    selects: str = ""

    @property
    def item_type(self) -> str:
        """GitHub's word for the argument itemTypes."""
        return f"{self.kind.upper()}_EVENT"

    @property
    def selection(self) -> str:
        """The part of a query."""
        return f"... on {self.type} {{ createdAt actor {{ ...actor }} {self.selects} }}"


# The fragment on Actor holds for every assignee and for every reviewer but a team.
REVIEWER = "requestedReviewer { __typename ...actor ...team }"
_ASSIGNEE = "assignee { __typename ...actor }"
EVENTS = (
    Event("ReviewRequestedEvent", "review_requested", REVIEWER),
    Event("ReviewRequestRemovedEvent", "review_request_removed", REVIEWER),
    Event("ReadyForReviewEvent", "ready_for_review"),
    Event("ConvertToDraftEvent", "convert_to_draft"),
    Event("HeadRefForcePushedEvent", "head_ref_force_pushed", "beforeCommit { oid } afterCommit { oid }"),
    Event("LabeledEvent", "labeled", "label { name }"),
    Event("UnlabeledEvent", "unlabeled", "label { name }"),
    Event("AssignedEvent", "assigned", _ASSIGNEE),
    Event("UnassignedEvent", "unassigned", _ASSIGNEE),
    Event("MergedEvent", "merged"),
    Event("ClosedEvent", "closed"),
    Event("ReopenedEvent", "reopened"),
)
KINDS = {event.type: event.kind for event in EVENTS}
ARGUMENT = f"itemTypes: [{' '.join(event.item_type for event in EVENTS)}]"
NODE = f"__typename ... on Node {{ id }} {' '.join(event.selection for event in EVENTS)}"
# What is read of a thread where the timeline is. Without it, a thread only leads to its comments.
THREAD = "id isResolved isOutdated path line originalLine resolvedBy { ...actor }"
