"""Several pull requests in few fields: each is asked for its own connections, for the least weight, and shown as if by number."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.github import documents
from backfill.github.grouping import OWN, Group, by_number, grouped
from backfill.github.packing import COUNTS, Part, parts_of
from backfill.github.refusals import Refusal
from backfill.github.replies import Reply

sizes = st.fixed_dictionaries({column: st.integers(0, 60) for column in sorted(set(COUNTS.values()))})
rows = st.lists(st.tuples(sizes, st.integers(0, 40)), min_size=1, max_size=30)


def asked_of(found: list[tuple[dict[str, int], int]]) -> dict[int, tuple[Part, ...]]:
    return {
        index: parts_of({"number": index, **each, "total_comments_count": each["comments_count"] + more})
        for index, (each, more) in enumerate(found)
    }


@given(rows, st.integers(1, 14))
@settings(max_examples=60, deadline=None)
def test_each_is_asked_for_all_that_it_has_in_as_few_fields_as_allowed(
    found: list[tuple[dict[str, int], int]], most: int
) -> None:
    asked = asked_of(found)
    groups = grouped(asked, most)
    assert 1 <= len(groups) <= most
    wanted = [(*pair, group) for group in groups for pair in group.wanted]
    expected = [(member, name) for member in asked for name in (OWN, *(part.connection for part in asked[member]))]
    assert sorted(pair[:2] for pair in wanted) == sorted(expected), "each is taken from one field"
    for member, name, group in wanted:
        for part in asked[member]:
            if part.connection == name:
                held = group.parts[name]
                assert held.first >= part.first
                assert (held.nested or 0) >= (part.nested or 0)


@given(rows)
@settings(max_examples=60, deadline=None)
def test_with_a_field_for_each_connection_nothing_is_asked_in_vain(found: list[tuple[dict[str, int], int]]) -> None:
    asked = asked_of(found)
    weight = sum(part.weight for parts in asked.values() for part in parts)
    assert sum(group.weight for group in grouped(asked, 1000)) == weight


def test_joined_are_those_that_cost_the_least() -> None:
    everybody, few = Part("commits", 3), Part("labels", 1)
    asked = {0: (everybody, few), 1: (everybody,), 2: (everybody,), 3: (everybody,)}
    groups = grouped(asked, 2)
    assert sorted((group.members, sorted(group.parts)) for group in groups) == [
        ([0], ["labels"]),
        ([0, 1, 2, 3], ["commits"]),
    ]
    assert [sum(group.weight for group in grouped(asked, most)) for most in (3, 2, 1)] == [5, 5, 8]


def reply(data: dict[str, Any], **fields: Any) -> Reply:
    return Reply({"node": {"id": "R_1"}, **data}, fields.pop("missing", frozenset()), 1, None, None, None, **fields)


GROUPS = {
    "g0": Group(frozenset({(0, OWN), (2, OWN), (3, OWN)}), {}),
    # Joined: the labels of 3 are asked for in vain, and its comments come from elsewhere.
    "g1": Group(
        frozenset({(2, "comments"), (2, "labels"), (3, "files")}),
        {"comments": Part("comments", 5), "labels": Part("labels", 5), "files": Part("files", 5)},
    ),
}
NUMBERS = {0: 10, 2: 12, 3: 13}


def test_a_reply_is_put_together_by_number() -> None:
    forbidden = Refusal("forbidden", "no")
    whole, lacking = by_number(
        reply(
            {
                "g0": [{"number": 10}, {"number": 12}, {"number": 13}],
                "g1": [{"comments": 1, "labels": 2, "files": 3}, {"comments": 4, "labels": None, "files": None}],
            },
            refused={
                ("g1", 1, "files"): forbidden,
                ("g1", 1, "labels"): forbidden,
                ("g0", 0, "mergedBy", "login"): forbidden,
                ("node", "p1", "files"): forbidden,
            },
        ),
        GROUPS,
        NUMBERS,
    )
    assert (set(lacking), whole.missing) == (set(), frozenset())
    assert whole.data["node"] == {
        "id": "R_1",
        "p0": {"number": 10},
        "p2": {"number": 12, "comments": 1, "labels": 2},
        "p3": {"number": 13, "files": None},
    }
    assert whole.refused == {
        ("node", "p3", "files"): forbidden,
        ("node", "p0", "mergedBy", "login"): forbidden,
        ("node", "p1", "files"): forbidden,
    }


def test_a_pull_request_that_its_node_id_does_not_show_is_asked_for_by_its_number() -> None:
    """Missing, refused, another type, another pull request, a field that is null as a whole."""
    base, more = [{"number": 10}, {"number": 12}, {"number": 13}], [{"comments": 1}, {"comments": 2}]
    for data, expected in (
        ({"g0": [None, *base[1:]], "g1": more}, {0}),
        ({"g0": base, "g1": [None, more[1]]}, {2}),
        ({"g0": [base[0], {}, base[2]], "g1": more}, {2}),
        ({"g0": [base[0], {"number": 99}, base[2]], "g1": more}, {2}),
        ({"g0": base, "g1": None}, {2, 3}),
        ({"g0": base, "g1": more[:1]}, {2, 3}),
        ({"g1": more}, {0, 2, 3}),
    ):
        missing = frozenset({("g0", 0)})
        refused = {("g0", 1): Refusal("forbidden", "no"), ("g1",): Refusal("forbidden", "no")}
        whole, lacking = by_number(reply(data, missing=missing, refused=refused), GROUPS, NUMBERS)
        assert set(lacking) == expected
        assert set(whole.data["node"]) == {"id", *(f"p{place}" for place in NUMBERS.keys() - expected)}
        assert (whole.missing, whole.refused) == (frozenset(), {})


def test_a_document_that_was_refused_names_fewer_and_each_step_is_smaller() -> None:
    withheld: set[str] = set()
    steps, refused = list[int | None](), 100
    while (part := documents.part_of_fields(refused)) is not None:
        withheld.add(part)
        refused = documents.most_fields(withheld) or 0
        steps.append(refused)
    assert steps == [12, 8, 5]
    assert documents.most_fields({"team"}) is None
