"""The learned size of a request: within its bounds, back at its start after a bounded number of answers, and rarely refused.

The exact numbers are those that the module's docstring promises: each of its constants decides one of them.
"""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backfill.github.request_size import LARGEST, START, UNLIMITED, RequestSize

sizes = st.builds(RequestSize, st.floats(1, LARGEST), st.none() | st.floats(1, UNLIMITED))
shares = st.lists(st.floats(0, 1), min_size=1, max_size=12)
FULL_ANSWERS, ANY_ANSWERS = 140, 240


def answers_until_start(size: RequestSize, shares: list[float]) -> int:
    """So many answers, each to a request of the next share of what the size allows, until the size is at its start."""
    for answers, share in enumerate(cycle(shares)):
        if size.value >= START:
            return answers
        size = size.grown(max(1, int(size.most * share)))
        assert answers < 10_000, f"never: {size}"
    raise AssertionError


@given(sizes, shares)
@example(RequestSize(1.0, START), [0.0])
@example(RequestSize(1.0, 2.0), [0.0])
def test_every_state_returns_to_its_start_however_full_the_requests_are(size: RequestSize, shares: list[float]) -> None:
    assert answers_until_start(size, shares) <= ANY_ANSWERS


@given(sizes)
@example(RequestSize(1.0, START))
@example(RequestSize(1.0, 2.0))
def test_full_requests_bring_every_state_back_sooner(size: RequestSize) -> None:
    assert answers_until_start(size, [1.0]) <= FULL_ANSWERS


def test_the_promised_numbers_are_near_the_worst() -> None:
    ceilings = [each / 50 for each in range(50, 1500)]
    assert max(answers_until_start(RequestSize(1.0, each), [1.0]) for each in ceilings) == 136
    assert max(answers_until_start(RequestSize(1.0, each), [0.0]) for each in ceilings) == 236


def test_without_a_ceiling_the_size_is_back_in_34_full_answers() -> None:
    assert answers_until_start(RequestSize(1.0), [1.0]) == 34
    # Below 2 a single pull request is a full request.
    assert answers_until_start(RequestSize(2.0), [0.5]) == 128


@pytest.mark.parametrize(("asked", "is_full"), [(20, True), (16, True), (15, False)])
def test_a_request_is_full_from_four_fifths_on(asked: int, is_full: bool) -> None:
    assert RequestSize(20.0).grown(asked).value == pytest.approx(22.0 if is_full else 20.4)


def test_a_new_backfill_begins_at_25_and_doubles_while_nothing_is_refused() -> None:
    size = RequestSize()
    assert size.most == 25
    # Full by weight: a third of the pull requests that the number allows.
    assert [(size := size.grown(-(-size.most * 3 // 10))).most for _ in range(4)] == [50, 100, 100, 100]
    assert RequestSize().grown(7) == RequestSize(), "less than that proves nothing"


def test_beyond_the_start_a_size_that_was_refused_grows_by_a_tenth_with_full_requests_alone() -> None:
    size = RequestSize(50.0, UNLIMITED)
    assert size.grown(50).value == pytest.approx(55.0)
    assert size.grown(39) == size
    assert RequestSize(99.0, UNLIMITED).grown(80) == RequestSize(LARGEST, UNLIMITED)
    assert RequestSize(99.0, UNLIMITED).grown(79) == RequestSize(99.0, UNLIMITED)


@given(sizes, st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=60))
def test_the_size_stays_within_its_bounds_and_each_answer_moves_it_in_one_direction(
    size: RequestSize, answers: list[tuple[bool, float]]
) -> None:
    for is_answered, share in answers:
        asked = max(1, int(size.most * share))
        after = size.grown(asked) if is_answered else size.halved(asked)
        assert after.value >= size.value if is_answered else after.value <= size.value
        assert 1 <= after.value <= LARGEST and after.most >= 1
        size = after


@given(st.integers(2, 100))
def test_a_refused_number_is_not_asked_for_again_for_about_a_hundred_answers(refused: int) -> None:
    size, answers = RequestSize(float(refused)).halved(refused), 0
    assert size.value == max(1.0, refused / 2)
    while size.most < refused:
        size, answers = size.grown(size.most), answers + 1
    assert 100 <= answers <= 110
    # It was refused again: what lies just below it was answered before.
    again = size.halved(size.most)
    assert again == RequestSize(max(1.0, 0.95 * refused), float(refused))
    # It passes now: on it goes, and nothing is known to be too many.
    assert size.grown(size.most) == RequestSize(min(LARGEST, 1.1 * refused), UNLIMITED)


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 24, 40, 70])
def test_a_limit_that_stays_costs_one_refusal_in_a_hundred_answers(limit: int) -> None:
    size, refusals, answered = RequestSize(), 0, 0
    for _ in range(4000):
        if size.most > limit:
            size, refusals = size.halved(size.most), refusals + 1
        else:
            answered += size.most
            size = size.grown(size.most)
    assert refusals <= 6 + 4000 / 100
    assert answered >= 0.9 * limit * 4000 * (1 if limit > 10 else 0.8)


@given(st.integers(2, 100), st.integers(1, 99))
def test_a_smaller_number_that_is_refused_becomes_the_ceiling(ceiling: int, asked: int) -> None:
    if asked < ceiling:
        assert RequestSize(float(ceiling - 1), float(ceiling)).halved(asked) == RequestSize(
            max(1.0, min(ceiling - 1.0, asked / 2)), float(asked)
        )
