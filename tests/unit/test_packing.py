"""Requests are full, chunks hold everything once, and the price follows GitHub's formula."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.github import cost
from backfill.github.cost import ONE_POINT, Connection
from backfill.github.packing import (
    COUNTS,
    Load,
    Part,
    _fullest,
    cut,
    load_of,
    next_request,
    page_of,
    parts_of,
    predict,
    rounds_of,
    with_timeline,
)

SIZES = sorted(set(COUNTS.values()))


def listed(number: int, **sizes: int) -> dict[str, Any]:
    """A pull request as the listing shows it: sizes by short name, 0 where not given; plus ``review_comments``."""
    row: dict[str, Any] = {"number": number, **dict.fromkeys(SIZES, 0)}
    review_comments = sizes.pop("review_comments", 0)
    row.update({f"{name}_count": size for name, size in sizes.items()})
    row["total_comments_count"] = row["comments_count"] + review_comments
    return row


pull_requests = st.lists(
    st.fixed_dictionaries(
        {
            "comments": st.integers(0, 130),
            "reviews": st.integers(0, 60),
            "review_threads": st.integers(0, 40),
            "commits": st.integers(0, 260),
            "files": st.integers(0, 800),
            "labels": st.integers(0, 3),
            "review_comments": st.integers(0, 90),
        }
    ),
    max_size=60,
)


def test_the_price_is_githubs_formula() -> None:
    documented = [Connection(100, (Connection(50, (Connection(60),)),))]
    assert cost.weight(documented) == 5_101
    assert cost.points(5_101) == 51
    assert cost.node_count(documented) == 100 + 5_000 + 300_000
    assert [cost.points(weight) for weight in (0, 1, 149, 150, 249, 250)] == [1, 1, 1, 2, 2, 3]
    six = tuple(Connection(100) for _ in range(6))
    assert cost.points(cost.weight([Connection(24, six)])) == 1
    assert cost.points(cost.weight([Connection(25, six)])) == 2


def test_only_what_is_not_empty_is_asked_for_with_its_exact_size() -> None:
    assert parts_of(listed(1, comments=3, commits=1, files=755)) == (
        Part("comments", 3),
        Part("commits", 1),
        Part("files", 100, None, 100),
    )
    assert parts_of(listed(1)) == ()


def test_a_connection_of_two_pages_is_read_from_both_ends() -> None:
    assert parts_of(listed(1, comments=159)) == (Part("comments", 100, None, 60),)
    assert parts_of(listed(1, comments=200)) == (Part("comments", 100, None, 100),)
    assert parts_of(listed(1, comments=755)) == (Part("comments", 100, None, 100),)
    assert page_of("comments", 755, 555, None) == Part("comments", 100, None, 100)
    assert page_of("comments", 755, 155, None) == Part("comments", 100, None, 56)
    assert rounds_of("comments", 755, 755) == 4
    assert load_of(listed(7, comments=755, commits=1, files=1)) == Load(7, 10, 4)


def test_the_far_end_of_what_github_cuts_off_is_not_read() -> None:
    assert parts_of(listed(1, commits=2979, files=1)) == (Part("commits", 100), Part("files", 1))
    assert load_of(listed(1, commits=2979, files=1)) == Load(1, 4, 3)


def test_files_are_asked_for_where_commits_say_that_there_are_some() -> None:
    """Of a very large pull request GitHub counts no files, and gives null for them."""
    assert parts_of(listed(1, commits=3)) == (Part("commits", 3), Part("files", 1))
    assert parts_of(listed(1)) == ()


def test_review_comments_come_from_threads_or_reviews_whichever_weighs_less() -> None:
    few_threads = parts_of(listed(1, reviews=30, review_threads=4, review_comments=20))
    assert few_threads == (Part("reviews", 30), Part("reviewThreads", 4, 20))
    few_reviews = parts_of(listed(1, reviews=3, review_threads=4, review_comments=20))
    assert few_reviews == (Part("reviews", 3, 20),)
    assert parts_of(listed(1, reviews=30, review_threads=4, review_comments=20), threads=False) == (
        Part("reviews", 30, 20),
    )


@given(st.lists(st.integers(1, 180), min_size=1, max_size=9), st.integers(1, 6))
def test_no_choice_fills_a_request_better(weights: list[int], most: int) -> None:
    room = ONE_POINT + 100 * max(0, -(-(weights[0] - ONE_POINT) // 100))
    chosen = _fullest(weights, most, room)
    assert chosen[0] == 0 and len(set(chosen)) == len(chosen) <= most
    best = max(
        (sum(weights[i] for i in (0, *others)), 1 + len(others))
        for count in range(most)
        for others in combinations(range(1, len(weights)), count)
        if sum(weights[i] for i in (0, *others)) <= room
    )
    assert (sum(weights[i] for i in chosen), len(chosen)) == best


@given(pull_requests, st.integers(1, 100), st.integers(1, 100))
@settings(max_examples=150)
def test_chunks_hold_every_number_once_and_never_too_many(
    sizes: list[dict[str, int]], chunk_size: int, request_size: int
) -> None:
    rows = [listed(len(sizes) - index, **each) for index, each in enumerate(sizes)]
    chunks = cut(rows, chunk_size, len(rows), request_size=request_size)
    assert sorted(n for chunk in chunks for n in chunk) == sorted(row["number"] for row in rows)
    assert all(1 <= len(chunk) <= chunk_size for chunk in chunks)
    several_rounds = {row["number"] for row in rows if load_of(row).rounds > 1}
    left = [row["number"] for row in rows if row["number"] not in several_rounds]
    for chunk in chunks:
        if chunk[0] not in several_rounds:
            assert chunk[0] == left[0], "each chunk begins with the first that is left, so each gets its turn"
        left = [number for number in left if number not in chunk]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 4)), max_size=60), st.integers(1, 100))
@settings(max_examples=200)
def test_no_request_is_dearer_than_what_cannot_wait_makes_it(waiting: list[tuple[int, int]], most: int) -> None:
    sent = []
    while waiting:
        chosen = next_request(waiting, most)
        request = [waiting[index] for index in chosen]
        assert 1 <= len(request) <= most and len(set(chosen)) == len(chosen)
        assert max(rounds for _, rounds in waiting) == max(rounds for _, rounds in request)
        heaviest = max(weight for weight, _ in request)
        assert cost.points(sum(weight for weight, _ in request)) == cost.points(heaviest)
        sent += request
        waiting = [each for index, each in enumerate(waiting) if index not in chosen]


def test_several_rounds_share_a_chunk_and_the_heaviest_fill_them() -> None:
    giants = [listed(9001, files=755, commits=1), listed(9002, comments=350, commits=1)]
    heavy = [listed(n, commits=1, files=1, reviews=30, review_comments=5) for n in range(100, 80, -1)]
    light = [listed(n, commits=1, files=1) for n in range(80, 0, -1)]
    rows = [*light[:40], giants[0], *heavy, *light[40:], giants[1]]
    first, *others = cut(rows, 25, 99)
    assert first[:2] == [9001, 9002]
    assert len(set(first) & {row["number"] for row in heavy}) >= 16
    assert predict(rows, 25)[0] == 4 + len(others)


def test_with_more_to_come_only_full_requests_are_cut() -> None:
    rows = [listed(n, commits=1, files=1, comments=1, reviews=1, labels=1, assignees=1) for n in range(60, 0, -1)]
    assert [len(chunk) for chunk in cut(rows, 25, 10, more=True)] == [24]
    assert [len(chunk) for chunk in cut(rows, 25, 10)] == [24, 24, 12]
    assert [len(chunk) for chunk in cut(rows, 10, 10, more=True)] == [10] * 6


def test_one_prediction_and_the_cutting_agree() -> None:
    rows = [listed(n, commits=1 + n % 7, files=1, comments=n % 3, reviews=n % 5) for n in range(400, 0, -1)]
    points, requests, chunks = predict(rows, 25)
    assert chunks == requests == points == len(cut(rows, 25, len(rows)))
    assert predict([], 25) == (0, 0, 0)


def test_a_timeline_weighs_one_and_the_state_of_threads_nothing_where_comments_come_with_them() -> None:
    def weight(reviews: int, threads: int, *, timeline: bool) -> int:
        row = {"number": 1, **dict.fromkeys(COUNTS.values(), 0), "total_comments_count": threads}
        row |= {"reviews_count": reviews, "review_threads_count": threads}
        return load_of(with_timeline(row, timeline)).weight

    assert [weight(1, 0, timeline=each) for each in (False, True)] == [1, 2]
    # Comments with one review: the page of threads comes on top. With three reviews, two threads are cheaper by then.
    assert [weight(1, 2, timeline=each) for each in (False, True)] == [2, 4]
    assert [weight(3, 2, timeline=each) for each in (False, True)] == [4, 5]
