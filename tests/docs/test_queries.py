"""The queries of docs/queries.md and the README run, give the output that the pages show, and mean what the pages say."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import pytest

from backfill.store.connection import Database
from local.postgres import Postgres
from local.query_examples import PAGES, examples, output, read_by_the_product, with_output
from local.simulator import Repository

Row = dict[str, Any]
DRAFT_OR_READY = ("ConvertToDraftEvent", "ReadyForReviewEvent")
QUERIES = PAGES[0].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(postgres: Postgres) -> Iterator[tuple[Database, Repository]]:
    """A database that the product filled, and what GitHub holds."""
    postgres.run("CREATE DATABASE queries TEMPLATE migrated")
    db = Database(lambda: postgres.url("queries"))
    with read_by_the_product(db) as repository:
        yield db, repository
    db.close()
    postgres.run("DROP DATABASE queries WITH (FORCE)")


def answer(db: Database, heading: str, *, all_rows: bool = True) -> list[Row]:
    """The rows of the query below a heading, with all rows instead of the first ones."""
    section = QUERIES.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    (example,) = examples(section)
    return db.rows(re.sub(r"LIMIT \d+$", "", example.sql) if all_rows else example.sql)


def at(text: str | None) -> datetime:
    assert text is not None
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def quarter(moment: datetime) -> str:
    return f"{moment.year}-{(moment.month - 1) // 3 * 3 + 1:02d}-01"


def hours(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds() / 3600


def identity(actor: Row | None) -> str | None:
    return actor["id"] if actor else None


def is_person(actor: Row | None) -> bool:
    return actor is not None and actor["__typename"] == "User"


def merged(repository: Repository) -> list[Row]:
    return [each for each in repository.pull_requests.values() if each["merged"]]


def test_every_page_shows_the_output_that_its_queries_have(read: tuple[Database, Repository]) -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert with_output(text, read[0]) == text, f"{page.name}: run make query-examples"


def test_there_are_eleven_questions_and_each_has_rows() -> None:
    assert QUERIES.count("\n## ") == len(examples(QUERIES)) == 11
    assert [
        example.sql for example in examples(QUERIES) if "row" not in example.output or "(0 rows)" in example.output
    ] == []


def test_time_to_merge(read: tuple[Database, Repository]) -> None:
    db, repository = read
    taken = defaultdict(list)
    for each in merged(repository):
        taken[quarter(at(each["mergedAt"]))].append(hours(at(each["mergedAt"]), at(each["createdAt"])))
    found = {str(row["quarter"]): row for row in answer(db, "How long does it take to merge?")}
    assert {name: row["merged"] for name, row in found.items()} == {name: len(all_) for name, all_ in taken.items()}
    for name, waits in taken.items():
        assert float(found[name]["median_hours"]) == pytest.approx(median(waits), abs=0.051)
        assert sum(one <= float(found[name]["p90_hours"]) + 0.05 for one in waits) >= 0.9 * (len(waits) - 1)


def test_review_latency(read: tuple[Database, Repository]) -> None:
    db, repository = read
    waits, without = defaultdict(list), Counter[str]()
    for each in repository.pull_requests.values():
        created = at(each["createdAt"])
        moments = [
            at(review["submittedAt"])
            for review in each["reviews"]
            if is_person(review["author"]) and identity(review["author"]) != identity(each["author"])
        ]
        if moments:
            waits[quarter(created)].append(hours(min(moments), created))
        else:
            without[quarter(created)] += 1
    rows = answer(db, "How long does a pull request wait for its first review?")
    assert {str(row["quarter"]): row["reviewed"] for row in rows if row["reviewed"]} == {
        n: len(w) for n, w in waits.items()
    }
    assert {str(row["quarter"]): row["without_review"] for row in rows if row["without_review"]} == dict(without)
    for row in rows:
        if row["reviewed"]:
            assert float(row["median_hours"]) == pytest.approx(median(waits[str(row["quarter"])]), abs=0.051)


def test_the_wait_of_a_ready_pull_request(read: tuple[Database, Repository]) -> None:
    db, repository = read
    waits = defaultdict(list)
    for each in repository.pull_requests.values():
        draft = [event for event in each["timelineItems"] if event["__typename"] in DRAFT_OR_READY]
        was_ready = not each["isDraft"] if not draft else draft[0]["__typename"] == "ConvertToDraftEvent"
        ready = [at(each["createdAt"])] if was_ready else []
        ready += [at(event["createdAt"]) for event in draft if event["__typename"] == "ReadyForReviewEvent"]
        reviewed = [
            at(review["submittedAt"])
            for review in each["reviews"]
            if is_person(review["author"]) and identity(review["author"]) != identity(each["author"])
        ]
        reviewed = [moment for moment in reviewed if ready and moment >= min(ready)]
        if reviewed:
            begun = max(moment for moment in ready if moment <= min(reviewed))
            waits[quarter(begun)].append(hours(min(reviewed), begun))
    rows = answer(db, "How long does a ready pull request wait for its first review?")
    assert {str(row["quarter"]): row["reviewed"] for row in rows} == {n: len(w) for n, w in waits.items()}
    for row in rows:
        assert float(row["median_hours"]) == pytest.approx(median(waits[str(row["quarter"])]), abs=0.051)


def test_reviewer_load(read: tuple[Database, Repository]) -> None:
    db, repository = read
    reviews, requested = Counter[str](), Counter[str]()
    pull_requests = defaultdict(set)
    for number, each in repository.pull_requests.items():
        if each["state"] == "OPEN":
            requested.update(one["login"] for one in each["reviewRequests"] if "login" in one)
        for review in each["reviews"]:
            author, since = review["author"], at(review["submittedAt"]) >= datetime(2020, 1, 1, tzinfo=UTC)
            if since and is_person(author) and identity(author) != identity(each["author"]):
                reviews[author["login"]] += 1
                pull_requests[author["login"]].add(number)
    rows = answer(db, "Who carries the reviews?")
    assert {row["login"]: row["reviews"] for row in rows} == dict(reviews)
    assert {row["login"]: row["pull_requests"] for row in rows} == {n: len(all_) for n, all_ in pull_requests.items()}
    assert {row["login"]: row["requested_now"] for row in rows} == {login: requested[login] for login in reviews}
    assert sum(requested.values()) > 0
    assert sum(row["percent_of_all"] for row in rows) == pytest.approx(100, abs=1)


def test_stale_pull_requests(read: tuple[Database, Repository]) -> None:
    db, repository = read
    fresh = next(number for number, each in repository.pull_requests.items() if each["state"] == "OPEN")
    found = [row["number"] for row in answer(db, "Which open pull requests are stale?")]
    expected = [each for each in repository.pull_requests.values() if each["state"] == "OPEN"]
    assert found == [each["number"] for each in sorted(expected, key=lambda each: each["updatedAt"])]
    assert fresh in found
    with db.transaction():
        db.execute(
            "UPDATE pull_requests SET updated_at = now() - interval '29 days' WHERE number = :number", number=fresh
        )
        assert fresh not in [row["number"] for row in answer(db, "Which open pull requests are stale?")]
        db.execute(
            "UPDATE pull_requests SET updated_at = :at WHERE number = :number",
            number=fresh,
            at=repository.pull_requests[fresh]["updatedAt"],
        )


def test_first_time_contributors(read: tuple[Database, Repository]) -> None:
    db, repository = read
    first: dict[str, Row] = {}
    for _, each in sorted(repository.pull_requests.items(), key=lambda item: (item[1]["createdAt"], item[0])):
        if is_person(each["author"]):
            first.setdefault(each["author"]["login"], each)
    years = Counter(at(each["createdAt"]).year for each in first.values())
    good = Counter(at(each["createdAt"]).year for each in first.values() if each["merged"])
    rows = answer(db, "Who contributes for the first time?")
    assert {row["year"]: row["first_time_contributors"] for row in rows} == dict(years)
    assert {row["year"]: row["first_one_merged"] for row in rows} == {year: good[year] for year in years}


def test_churn(read: tuple[Database, Repository]) -> None:
    db, repository = read
    years = defaultdict(list)
    for each in merged(repository):
        years[at(each["mergedAt"]).year].append((each["additions"], each["deletions"]))
    rows = answer(db, "How much code changes?")
    assert {row["year"]: (row["merged"], row["additions"], row["deletions"], row["net"]) for row in rows} == {
        year: (len(all_), sum(a for a, _ in all_), sum(d for _, d in all_), sum(a - d for a, d in all_))
        for year, all_ in years.items()
    }


def test_busiest_files(read: tuple[Database, Repository]) -> None:
    db, repository = read
    numbers: dict[str, set[int]] = defaultdict(set)
    authors: dict[str, set[str | None]] = defaultdict(set)
    lines = Counter[str]()
    for each in merged(repository):
        for file in each["files"]:
            numbers[file["path"]].add(each["number"])
            authors[file["path"]] |= {identity(each["author"])} - {None}
            lines[file["path"]] += file["additions"] + file["deletions"]
    rows = answer(db, "Which files are the busiest?")
    assert {row["path"]: (row["merged_pull_requests"], row["authors"], row["changed_lines"]) for row in rows} == {
        path: (len(numbers[path]), len(authors[path]), lines[path]) for path in numbers
    }
    assert [row["merged_pull_requests"] for row in rows] == sorted(map(len, numbers.values()), reverse=True)


def test_unreviewed_merges(read: tuple[Database, Repository]) -> None:
    db, repository = read
    found = {
        each["number"]
        for each in merged(repository)
        if not any(
            review["state"] == "APPROVED" and identity(review["author"]) != identity(each["author"])
            for review in each["reviews"]
        )
    }
    rows = answer(db, "What was merged without an approval?")
    assert {row["number"] for row in rows} == found
    assert {row["of_merged"] for row in rows} == {f"{len(found)} of {len(merged(repository))}"}


def test_bus_factor(read: tuple[Database, Repository]) -> None:
    db, repository = read
    counts = Counter(each["author"]["login"] for each in merged(repository) if is_person(each["author"]))
    total, taken, people = sum(counts.values()), 0, 0
    for count in sorted(counts.values(), reverse=True):
        if taken >= total / 2:
            break
        taken, people = taken + count, people + 1
    (row,) = answer(db, "How many people carry the project?")
    assert (row["bus_factor"], row["merged_by_them"], row["merged_by_all"]) == (people, taken, total)


def test_weekly_throughput(read: tuple[Database, Repository]) -> None:
    db, repository = read
    weeks: dict[str, Counter[str]] = defaultdict(Counter)

    def note(what: str, text: str | None) -> None:
        if text is not None:
            moment = at(text)
            weeks[str((moment - timedelta(days=moment.weekday())).date())][what] += 1

    for each in repository.pull_requests.values():
        note("opened", each["createdAt"])
        note("merged", each["mergedAt"])
        note("closed", None if each["merged"] else each["closedAt"])
    rows = answer(db, "How much gets done in a week?")
    assert {str(row["week"]): (row["opened"], row["merged"], row["closed"]) for row in rows} == {
        week: (counts["opened"], counts["merged"], counts["closed"]) for week, counts in weeks.items()
    }


def test_output_looks_like_that_of_psql() -> None:
    rows: list[Row] = [{"name": "a", "count": 10}, {"name": None, "count": 2}]
    assert output(rows) == "name | count\n-----+------\na    |    10\n     |     2\n(2 rows)\n"
    assert output([]) == "(0 rows)\n"
