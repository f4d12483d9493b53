"""No header value raises, or makes a wait outside the documented limits."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backfill.errors import BackfillError
from backfill.github import headers as header
from backfill.github.errors import RateLimited
from backfill.github.replies import classify
from backfill.github.transport import Transport
from backfill.limits import LONGEST_WAIT_SECONDS, LONGEST_WINDOW_SECONDS

NOW = 1_800_000_000
NAMES = ("retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "date")
DATES = st.datetimes().map(format_datetime)
FIELD = st.sampled_from(["", "Fri, ", "Mon, "]), st.integers(-1, 99_999), st.integers(-9999, 9999)
ODD_DATES = st.builds(lambda day, year, zone: f"{day}01 Jan {year} 00:00:00 {zone:+05d}", *FIELD)
NUMBERS = st.integers().map(str) | st.floats().map(str) | st.integers(0, 10**400).map(str)
WORDS = st.sampled_from(
    ["²", "٣", "１２", "-0", "+5", "1_000", "0x10", "1e3", "nan", "inf", "", " ", "60, 60", "\x00", "0" * 5000]
)
VALUES = st.one_of(NUMBERS, WORDS, DATES, ODD_DATES, st.text(max_size=40))
HEADERS = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, VALUES))


@given(st.sampled_from([200, 401, 403, 429]), HEADERS, st.sampled_from(["primary rate limit", "Secondary rate limit"]))
@example(403, {"retry-after": "²"}, "Secondary rate limit")
@example(429, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "²"}, "primary rate limit")
@example(
    403,
    {"date": "Mon, 01 Jan 0001 00:00:00 +2359", "retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"},
    "Secondary rate limit",
)
def test_no_header_raises_or_makes_a_wait_beyond_the_limits(status: int, headers: dict[str, str], message: str) -> None:
    body = {"message": message} if status != 200 else {"errors": [{"type": "RATE_LIMITED", "message": message}]}
    with pytest.raises(BackfillError) as raised:
        classify(status, headers, json.dumps(body).encode())
    if isinstance(raised.value, RateLimited):
        wait = raised.value.wait_seconds
        assert wait is None or header.SHORTEST_WAIT_SECONDS <= wait <= LONGEST_WAIT_SECONDS
        if wait is not None and "retry-after" not in headers:
            assert wait <= LONGEST_WINDOW_SECONDS
    else:
        assert status == 401


@given(HEADERS)
@example({"date": "Mon, 01 Jan 0001 00:00:00 +2359"})
@example({"date": "Fri, 31 Dec 9999 23:59:59 -2359"})
# Its moment is the year 10000, which no datetime holds: OverflowError where it is turned into UTC.
@example({"date": "Fri, 31 Dec 9999 23:59:59 -0001"})
def test_no_date_spoils_a_reply_or_the_clock(headers: dict[str, str]) -> None:
    body = b'{"data": {"rateLimit": {"cost": 1, "limit": 5000, "remaining": 9, "resetAt": "2027-01-15T08:30:00Z"}}}'
    reply = classify(200, headers, body)
    assert reply.reset_seconds is None or 0 < reply.reset_seconds <= LONGEST_WINDOW_SECONDS
    transport = Transport("https://api.github.com", clock=lambda: NOW)
    transport._learn_clock(headers)
    assert abs((transport.now() - datetime.fromtimestamp(NOW, UTC)).total_seconds()) <= 24 * 3600


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -0100",
        "soon",
        "",
    ],
)
def test_a_date_that_cannot_be_githubs_leaves_the_clock_as_it_was(date: str) -> None:
    transport = Transport("https://api.github.com")
    transport._learn_clock({"date": formatdate(time.time() + 7200, usegmt=True)})
    transport._learn_clock({"date": date})
    assert transport.now().timestamp() == pytest.approx(time.time() + 7200, abs=5)


@pytest.mark.parametrize(
    ("text", "found"),
    [("0", 0), ("60", 60), (" 60 ", 60), ("9" * 30, 10**18 - 1), ("²", None), ("-1", None), ("1.5", None), ("", None)],
)
def test_a_number_is_ascii_digits_and_nothing_else(text: str, found: int | None) -> None:
    assert header.whole({"x": text}, "x") == found
    assert header.whole({}, "x") is None
