"""The product as one killable process: planner and worker take turns until nothing is left. DATABASE_URL, GITHUB_API_URL."""

from __future__ import annotations

import os
import sys

from backfill import outbox
from backfill.chunk_worker.worker import Worker
from backfill.console import Console
from backfill.github.auth import Credentials
from backfill.github.client import GitHub
from backfill.github.governor import Governor
from backfill.github.transport import Transport
from backfill.messages import PlanEvent, RecoveryEvent, chunk_message
from backfill.planner.run import Planner
from backfill.recovery import Recovery
from backfill.store.budget import PostgresBudget
from backfill.store.connection import Database
from local.memory_queue import MemoryQueues


def main() -> int:
    """Exit status 0 when the backfill is completed."""
    db, queues = Database(lambda: os.environ["DATABASE_URL"]), MemoryQueues()
    transport = Transport(os.environ["GITHUB_API_URL"])
    credentials = Credentials(transport, lambda _: {"token": "ghp_benchmark"})
    github = GitHub(transport, credentials, Governor(PostgresBudget(db)))
    planner, worker = Planner(db, github, queues, lambda: 600.0), Worker(db, github, queues, lambda: 600.0)
    Console(db, github, queues).act({"action": "add", "repository": sys.argv[1]})
    # Left by an earlier run that was killed. Leases end by themselves and SQS keeps its messages; this run waits for neither.
    db.execute("UPDATE progressive_backfill_state SET planner_token = NULL, planner_lease_expires_at = NULL")
    long_ago = "now() - interval '1 day'"
    db.execute(
        f"UPDATE backfill_chunks SET started_at = {long_ago}, lease_expires_at = {long_ago} WHERE status = 'processing'"
    )
    db.execute("UPDATE backfill_chunks SET sent_at = NULL WHERE status = 'pending'")
    Recovery(db, queues).recover(RecoveryEvent())
    while db.rows("SELECT FROM progressive_backfill_state WHERE status = 'active'"):
        planner.plan(PlanEvent(repository=sys.argv[1]))
        outbox.send(db, queues)
        while queues.chunks:
            body = queues.chunks.pop(0)
            worker.handle(chunk_message(body), body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
