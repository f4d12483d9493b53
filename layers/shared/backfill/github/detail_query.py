"""The document that reads pull requests: whole, or page by page, or as a listing shows them."""

from __future__ import annotations

from collections.abc import Container, Sequence

from backfill.github import timeline
from backfill.github.documents import (
    CONNECTION_TYPES,
    FRAGMENTS,
    NODE_TYPES,
    PAGE,
    RATE_LIMIT,
    squeezed,
    with_fragments,
)
from backfill.github.packing import Part

# The names of connections, short: each stands in a query once for each pull request.
_SHORT = {
    "labels": "l",
    "assignees": "a",
    "reviewRequests": "q",
    "closingIssuesReferences": "i",
    "comments": "c",
    "reviews": "r",
    "reviewThreads": "t",
    "commits": "m",
    "files": "f",
    "timelineItems": "e",
}
# What replaces a fragment that is withheld.
_WITHOUT = {"team": "on Team { __typename }", "reviewThreadsNode": "on PullRequestReviewThread { id }"}
_USUAL = ("...m10", "...f10", "...e100")
# To these sizes a page is rounded up.
_FIRST_STEPS, _NESTED_STEPS = (10, 30, 100), (5, 10, 25, 50, 100)


class DetailQuery:
    """Builds a query for pull requests by number, below the repository, and for further pages at the root.

    ``withheld`` names fragments that the token may not ask for, or that are not wanted: they are left out. ``variables`` hold
    values of any length: node ids and cursors. The repository's own node id is not among them.
    """

    def __init__(self, withheld: Container[str] = ()) -> None:
        self.variables: dict[str, object] = {}
        self._declared: list[str] = []
        self._below: list[str] = []
        self._at_root: list[str] = []
        self._has_timeline = False
        self._fragments = {**FRAGMENTS, **{name: text for name, text in _WITHOUT.items() if name in withheld}}

    def pull_request(self, alias: str, number: int, fields: str) -> None:
        """One pull request: ``...listed`` or ``...pullRequest``, and connections."""
        self.field(f"{alias}: pullRequest(number: {number}) {{{fields}}}")

    def whole(self, alias: str, number: int, connections: Sequence[str]) -> None:
        """One pull request with its own fields and these connections. What most ask together with a timeline is one name."""
        others = [each for each in connections if each not in _USUAL]
        if len(connections) - len(others) < len(_USUAL):
            self.pull_request(alias, number, " ".join(["...pullRequest", *connections]))
            return
        self._fragments["usual"] = f"on PullRequest {{ ...pullRequest {' '.join(_USUAL)} }}"
        self.pull_request(alias, number, " ".join(["...usual", *others]))

    def field(self, text: str) -> None:
        """One field of the repository."""
        self._below.append(text)

    def group(self, alias: str, node_ids: Sequence[str], fields: str) -> None:
        """The same fields of several pull requests, by node id: one field of the document, however many they are."""
        self._at_root.append(f"{alias}: nodes(ids: {self._variable('[ID!]!', list(node_ids))}) {{{fields}}}")

    def connection(self, part: Part, after: str | None = None, before: str | None = None) -> str:
        """A connection of a pull request, from the front and (``part.last``) from its far end.

        Only where nodes have connections of their own does ``first`` cost points. Elsewhere it is rounded up, so that pull
        requests share the text.
        """
        name, first, last = part.connection, part.first, part.last
        self._has_timeline |= name == "timelineItems"
        page, size, is_begin = f"{name}Page", "", not (after or last)
        also = f", {timeline.ARGUMENT}" if name == "timelineItems" else ""
        if part.nested:
            nested = _rounded(part.nested, _NESTED_STEPS)
            page, size = f"{name}With{nested}", f"x{nested}"
            self._fragments[page] = (
                f"on {CONNECTION_TYPES[name]} {{ totalCount {PAGE} nodes {{ ...{name}Node "
                f"comments(first: {nested}) {{ ...reviewComments }} }} }}"
            )
        elif is_begin:
            first = _rounded(first, _FIRST_STEPS)
        if is_begin:
            spread = f"{_SHORT[name]}{first}{size}"
            self._fragments[spread] = f"on PullRequest {{ {name}(first: {first}{also}) {{ ...{page} }} }}"
            return f"...{spread}"
        text = f"{name}(first: {first}{self._cursor('after', after)}{also}) {{ ...{page} }}"
        if not last:
            return text
        return f"{text} {name}Last: {name}(last: {last}{self._cursor('before', before)}) {{ ...{page} }}"

    def more_review_comments(self, alias: str, node_id: str, parent: str, page: tuple[int, str | None]) -> None:
        """The ``first`` review comments ``after`` a cursor (``page``) of a review (``reviews``) or thread (``reviewThreads``)."""
        first, after = page
        node = self._variable("ID!", node_id)
        comments = f"comments(first: {first}{self._cursor('after', after)}) {{ ...reviewComments }}"
        self._at_root.append(f"{alias}: node(id: {node}) {{ ... on {NODE_TYPES[parent]} {{ {comments} }} }}")

    def text(self) -> str:
        """The whole query."""
        below = f"node(id: $repository) {{ ... on Repository {{ id {' '.join(self._below)} }} }}"
        declared = ", ".join(["$repository: ID!", *self._declared])
        query = f"query PullRequestDetails({declared}) {{ {below} {' '.join(self._at_root)} {RATE_LIMIT} }}"
        text = with_fragments(query, self._fragments)
        # A timeline makes documents longer.
        return squeezed(text) if self._has_timeline else text

    def _variable(self, kind: str, value: object) -> str:
        name = f"v{len(self.variables)}"
        self.variables[name] = value
        self._declared.append(f"${name}: {kind}")
        return f"${name}"

    def _cursor(self, name: str, cursor: str | None) -> str:
        return f", {name}: {self._variable('String!', cursor)}" if cursor else ""


def list_numbers(numbers: Sequence[int]) -> str:
    """Pull requests by number as a listing shows them, each as p and its number."""
    query = DetailQuery()
    for number in numbers:
        query.pull_request(f"p{number}", number, "...listed")
    return query.text()


def _rounded(wanted: int, steps: tuple[int, ...]) -> int:
    return next((step for step in steps if step >= wanted), wanted)
