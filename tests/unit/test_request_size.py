"""The learned size of a request: never out of bounds, and back at its start after a bounded number of answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backfill.github.request_size import LARGEST, START, RequestSize

sizes = st.builds(RequestSize, st.floats(1, LARGEST), st.none() | st.floats(1, LARGEST))


@given(sizes, st.integers(1, 100))
def test_every_state_returns_to_its_start(size: RequestSize, share: int) -> None:
    """Requests as full as the size allows; the ceiling is lifted on the way."""
    for answers in range(2_000):
        if size.value >= START:
            return
        size = size.grown(max(1, size.most * share // 100) if answers % 2 else size.most)
    raise AssertionError(f"still {size}")


@given(sizes, st.lists(st.tuples(st.booleans(), st.integers(1, 100)), max_size=60))
def test_the_size_stays_within_its_bounds(size: RequestSize, answers: list[tuple[bool, int]]) -> None:
    for is_answered, asked in answers:
        size = size.grown(asked) if is_answered else size.halved(asked)
        assert 1 <= size.value <= LARGEST
        assert size.most >= 1


@given(st.integers(2, 100))
def test_what_was_refused_is_not_asked_again_for_a_while(asked: int) -> None:
    size = RequestSize(float(asked)).halved(asked)
    for _ in range(40):
        size = size.grown(size.most)
        assert size.most < asked
