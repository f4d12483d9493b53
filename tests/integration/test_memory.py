"""A function stays well below its memory under any answer of GitHub. Each runs in its own process, measured by its peak."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backfill.github.transport import MOST_BYTES
from backfill.messages import dispatch_body
from backfill.model import Origin
from backfill.store import backfills, chunks, repositories
from backfill.store.connection import Database
from benchmarks.memory import LONGEST_BODY, MOST_MEGABYTES, giants, peak, read_giants, settings
from local.in_process import differences
from local.simulator import Simulator
from local.stack import ROOT
from tests.integration.rows import REPOSITORY

# A margin for what Lambda's own runtime takes, and for what a longer life leaves behind.
MOST = 0.75 * MOST_MEGABYTES


def test_the_template_gives_every_function_the_memory_that_is_meant() -> None:
    sizes = [line for line in (ROOT / "template.yaml").read_text(encoding="utf-8").splitlines() if "MemorySize" in line]
    assert sizes == [f"    MemorySize: {MOST_MEGABYTES:.0f}"]


def test_a_chunk_of_giants_is_split_until_it_fits_and_all_of_it_is_stored(db: Database, database_url: str) -> None:
    repository = giants("text", 30)
    with Simulator([repository], speed=1000) as simulator:
        assert read_giants(database_url, simulator, repository, most=10) < MOST
        assert differences(db, simulator) == []
    held = db.rows("SELECT status, cardinality(pr_numbers) AS size FROM backfill_chunks ORDER BY size")
    assert [tuple(each.values()) for each in held] == [("completed", size) for size in (15, 15)]


def test_thousands_of_files_comments_and_commits_are_read_whole(db: Database, database_url: str) -> None:
    repository = giants("files", 1)
    ((number, node),) = repository.pull_requests.items()
    node["comments"] = [
        {**giants("text", 1).pull_requests[number]["comments"][0], "id": f"IC_{i}", "body": "b"} for i in range(2500)
    ]
    node["commits"] = [
        {**node["commits"][0], "commit": {**node["commits"][0]["commit"], "oid": f"{i:040x}"}} for i in range(250)
    ]
    node["totalCommentsCount"] = 2500 + sum(len(each["comments"]) for each in node["reviews"])
    with Simulator([repository], speed=1000) as simulator:
        assert read_giants(database_url, simulator, repository, most=1) < MOST
        assert differences(db, simulator) == []


def test_a_single_pull_request_that_is_too_large_to_hold_fails_alone_with_its_reason(
    db: Database, database_url: str
) -> None:
    repository = giants("text", 1)
    ((number, node),) = repository.pull_requests.items()
    node["comments"] = [{**node["comments"][0], "id": f"IC_{i}"} for i in range(600)]
    node["totalCommentsCount"] = 600 + sum(len(each["comments"]) for each in node["reviews"])
    with Simulator([repository], speed=1000) as simulator:
        assert read_giants(database_url, simulator, repository, most=1) < MOST
    failed = db.rows("SELECT number, error_code FROM pull_request_gaps WHERE reason = 'failed'")
    assert failed == [{"number": number, "error_code": "too_large"}]
    noted = db.one("SELECT error FROM backfill_chunks") or {}
    assert "more than 32 MB" in noted["error"]


def _json_of(middle: bytes, most: int = MOST_BYTES) -> bytes:
    """A reply of the largest size that is read, full of ``middle``."""
    begin, end = b'{"data": {"node": [0', b"]}}"
    return begin + middle * ((most - len(begin) - len(end)) // len(middle)) + end


@pytest.mark.parametrize(
    "content",
    [
        lambda: _json_of(b",[]"),
        lambda: _json_of(b",{}"),
        lambda: _json_of(b',"a"'),
        lambda: _json_of(f',"\N{CROCODILE}{"x" * LONGEST_BODY}"'.encode()),
        lambda: b"[" * MOST_BYTES,
        lambda: bytes(256 * 1024 * 1024),
    ],
    ids=["lists", "objects", "texts", "wide texts", "depth", "bomb"],
)
def test_the_largest_reply_of_any_form_is_survived(
    db: Database, database_url: str, content: Callable[[], bytes]
) -> None:
    repository = repositories.upsert(db, REPOSITORY)
    backfill = backfills.add(db, repository.id, total_prs=2, chunk_size=None, metadata={}).backfill
    chunk = chunks.create(db, backfill.id, [1, 2], origin=Origin.MESSAGE)
    body = dispatch_body(chunk.dispatch)
    with _answering(gzip.compress(content(), 1)) as url:
        event = {"Records": [{"messageId": "1", "body": body}]}
        assert peak("chunk_worker", event, settings(database_url, url)) < MOST
    done = chunks.get(db, chunk.id)
    assert done is not None and (done.status, done.attempts) == ("pending", 1) and done.error


@contextmanager
def _answering(compressed: bytes) -> Iterator[str]:
    """A server that answers every request with this, as gzip; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-encoding", "gzip")
            self.send_header("content-length", str(len(compressed)))
            self.end_headers()
            try:
                self.wfile.write(compressed)
            except OSError:
                # Whoever asked had enough of it.
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
