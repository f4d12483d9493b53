"""No document reaches 8 kB, for any pull requests: a request ends before its document is too large."""

from __future__ import annotations

from dataclasses import replace

from graphql import build_schema, parse, validate
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.github import documents
from backfill.github.packing import COUNTS, Part, parts_of
from backfill.github.tasks import Task, fitting
from local.simulator.schema import SDL

SCHEMA = build_schema(SDL)

counts = st.one_of(st.just(0), st.integers(0, 12), st.integers(0, 10**6))
sizes = st.fixed_dictionaries(dict.fromkeys(sorted(set(COUNTS.values())), counts))
begun = st.builds(
    lambda each, more: Task(1, parts_of({"number": 1, **each, "total_comments_count": each["comments_count"] + more})),
    sizes,
    counts,
)
# Nobody says how long a cursor or a node id is.
words = st.builds(lambda letter, times: letter * times, st.sampled_from("aZ=ü"), st.integers(1, 3000))
further = st.builds(
    lambda name, page, ends: Task(1, (Part(name, page, None, page // 2),), after=ends[0], before=ends[1]),
    st.sampled_from(sorted(COUNTS)),
    st.integers(1, 100),
    st.tuples(words, st.none() | words),
)
nested = st.builds(
    lambda node_id, parent, after: Task(1, node_id=node_id, parent=parent, after=after),
    words,
    st.sampled_from(["reviews", "reviewThreads"]),
    st.none() | words,
)
parts = ["team", "fields:12", "fields:8", "fields:5"]


@given(
    st.lists(begun | begun | further | nested, min_size=1, max_size=100),
    st.integers(1, 2**31 - 200),
    st.sets(st.sampled_from(parts)),
)
@settings(max_examples=80, deadline=None)
def test_a_request_ends_before_its_document_is_too_large(found: list[Task], first: int, withheld: set[str]) -> None:
    tasks = [replace(task, number=first + index) for index, task in enumerate(found)]
    node_ids = {task.number: None if task.number % 7 == 0 else f"PR_{task.number:0120}" for task in tasks}
    most, sent = documents.most_fields(withheld), list[Task]()
    waiting = tasks
    while waiting:
        request, later = fitting(waiting, node_ids, withheld)
        assert len(request.text.encode()) < 8_000
        assert most is None or request.fields <= most
        assert request.tasks and len(request.tasks) + len(later) == len(waiting)
        if not sent:
            assert validate(SCHEMA, parse(request.text)) == []
        sent += request.tasks
        waiting = later
    assert sorted(task.number for task in sent) == [task.number for task in tasks]


def test_the_largest_pull_request_alone_leaves_room() -> None:
    """What no request can be divided into: everything of one pull request, and both ends of a connection."""
    row = {"number": 1, "total_comments_count": 10**6, **dict.fromkeys(COUNTS.values(), 10**5)}
    for most in (True, False):
        request, later = fitting([Task(1, parts_of(row, threads=most))], {1: None}, set())
        assert not later and len(request.text) < documents.MOST_BYTES * 3 / 4


def test_a_hundred_whole_pull_requests_are_more_than_one_document_holds() -> None:
    row = {"number": 1, "total_comments_count": 9, **dict.fromkeys(COUNTS.values(), 3)}
    tasks = [Task(2**31 - number, parts_of(row)) for number in range(1, 101)]
    request, later = fitting(tasks, dict.fromkeys((task.number for task in tasks), None), set())
    assert len(request.text.encode()) < documents.MOST_BYTES
    assert request.tasks and later and len(request.tasks) + len(later) == 100
