"""What an operator does: add, watch, pause, resume, set the priority, find gaps, sync, look at dead letters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from backfill import __version__, diagnosing, naming, tracking
from backfill.errors import ContractViolation, Deferred, Permanent, Retryable
from backfill.github.client import GitHub
from backfill.github.errors import RepositoryUnavailable
from backfill.messages import console_event
from backfill.model import Backfill
from backfill.observability import event as log
from backfill.overview import MOST_BACKFILLS, overview
from backfill.queues import Queues
from backfill.store import (
    backfills,
    chunk_history,
    completed,
    gaps,
    names,
    progress,
    pull_requests,
    removals,
    repositories,
    sync_requests,
)
from backfill.store.connection import Database
from backfill.store.names import Wanted
from backfill.store.pull_requests import FAILED_RETRY_HOURS

Row = dict[str, Any]
# A look at the dead letters hides them from the next command for no longer than a person takes to type it.
LOOK_SECONDS = 1
# To delete some hides the others for no longer than that takes.
DISCARD_SECONDS = 10
MOST_LETTERS = 500
# One answer's share of deleting a repository's data.
DELETING_SECONDS = 10.0
# Before every uuid.
FIRST_ID = "00000000-0000-0000-0000-000000000000"
# After every uuid.
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
# Lambda takes answers of 6 MB; these are bytes of JSON for the rows of one page.
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
PAGE_BYTES = 4_000_000
# Rows that a page reads from the database, at the most.
MOST_GAPS = 2_000
# Chunks of one answer, unless more are asked for.
MOST_CHUNKS = 20


@dataclass(frozen=True, slots=True)
class Console:
    """One action per call; every answer is plain JSON."""

    db: Database
    github: GitHub
    queues: Queues

    def act(self, event: Mapping[str, Any]) -> Row:
        """Run ``event["action"]``. Raises ContractViolation for what it does not understand."""
        fields = console_event(event)
        answer = getattr(self, f"_{fields['action']}")(fields)
        return {"ok": True, **_plain(answer)}

    def _add(self, event: Mapping[str, Any]) -> Row:
        """Names are accepted at once. What GitHub cannot answer for yet, the planner asks again."""
        metadata = {}
        if "priority" in event:
            metadata["priority"] = event["priority"]
        if "oldest_first" in event:
            metadata["order"] = "oldest_first" if event["oldest_first"] else "newest_first"
        asked = event["repositories"] if "repositories" in event else [event["repository"]]
        pairs = [each.split("/") for each in dict.fromkeys(asked)]
        wanted = [Wanted(owner, name, event.get("chunk_size"), metadata) for owner, name in pairs]
        wait, reason = naming.AGAIN_SECONDS, "GitHub has not answered yet"
        found: dict[str, naming.Found | naming.Refusal] = {}
        try:
            found = naming.find(self.github, wanted)
        except Deferred as limit:
            wait, reason = limit.seconds, limit.reason
        except Retryable as error:
            reason = str(error)
        rows = [self._added(each, found.get(each.full_name), reason, wait) for each in wanted]
        if any(row.get("waits") for row in rows):
            self.queues.request_plan(None, wait)
        if "repositories" in event:
            return {"repositories": rows}
        if "error" in rows[0]:
            raise RepositoryUnavailable(rows[0]["error"])
        return rows[0]

    def _added(self, wanted: Wanted, found: naming.Found | naming.Refusal | None, reason: str, wait: float) -> Row:
        """What became of one name: a backfill, an error, or accepted (``waits``: for what)."""
        if isinstance(found, Permanent):
            return {"repository": wanted.full_name, "error": str(found)}
        if found is None or isinstance(found, Retryable):
            why = reason if found is None else str(found)
            names.accept(self.db, wanted, why[:2000], wait)
            return {
                "repository": wanted.full_name,
                "repository_id": None,
                "created": True,
                "total_prs": 0,
                "waits": why,
            }
        return dict(naming.track(self.db, self.queues, wanted, found, self.github.unsupported))

    def _remove(self, event: Mapping[str, Any]) -> Row:
        """Track a repository no more. ``done`` is false while there is data left to delete: then ask again."""
        owner, name = event["repository"].split("/")
        forgotten = names.forget(self.db, owner, name)
        repository = repositories.find(self.db, owner, name)
        if repository is None:
            if not forgotten:
                raise ContractViolation("repository", f"{owner}/{name} is not tracked")
            return {"removed": True, "done": True}
        removed = removals.remove_backfill(self.db, repository.id)
        delete = bool(event.get("delete_data"))
        if not (removed or forgotten or delete):
            raise ContractViolation("repository", f"{owner}/{name} is not tracked; its data is kept")
        done = removals.delete_data(self.db, repository.id, DELETING_SECONDS) if delete else True
        log("a repository was removed", repository=event["repository"], data_deleted=delete, done=done)
        return {"removed": removed or forgotten, "done": done}

    def _status(self, event: Mapping[str, Any]) -> Row:
        """Active backfills first, then paused ones, then those completed last; ``stored`` counts rows, which takes time.

        A page of all: with ``page`` they come in the order of their ids, ``after`` that of the last one.
        """
        backfill = tracking.find(self.db, event["repository"]) if "repository" in event else None
        if "repository" in event and backfill is None:
            return self._accepted(event)
        only = backfill.repository_id if backfill else None
        after = event.get("after_id", FIRST_ID) if event.get("paged") else None
        seen = overview(self.db, self.queues, only, after)
        if only is not None:
            seen["requested"] = []
        rows = seen["backfills"]
        seen["backfills"] = fitting(rows)
        seen["more"] = len(seen["backfills"]) < len(rows) or (len(rows) == MOST_BACKFILLS and only is None)
        seen["after_id"] = seen["backfills"][-1]["backfill_id"] if rows else FIRST_ID
        for row in seen["backfills"]:
            if event.get("stored"):
                row["stored"] = progress.stored(self.db, row["repository_id"])
            row["chunks"] = {name: row.pop(name) for name in ("pending", "processing", "failed", "expired_leases")}
            row["condition"] = asdict(row["condition"])
        return seen

    def _accepted(self, event: Mapping[str, Any]) -> Row:
        """The status of a name that is accepted and not a backfill yet. Raises ContractViolation for any other."""
        wanted = event["repository"].lower()
        waiting = [asdict(each) for each in names.requested(self.db) if each.repository.lower() == wanted]
        if not waiting:
            tracking.named(self.db, event["repository"])
        seen = overview(self.db, self.queues, None, LAST_ID)
        return {**seen, "requested": waiting, "more": False, "after_id": FIRST_ID}

    def _pause(self, event: Mapping[str, Any]) -> Row:
        backfill = tracking.named(self.db, event["repository"])
        return {"paused": backfills.pause(self.db, backfill.id, "manual", minutes=None)}

    def _resume(self, event: Mapping[str, Any]) -> Row:
        """A paused backfill goes on. One that is active or completed stays so, unless failed pull requests are retried."""
        backfill = tracking.named(self.db, event["repository"])
        retried = pull_requests.retry_failed(self.db, backfill.repository_id) if event.get("retry_failed") else 0
        resumed = backfills.resume(self.db, backfill.id)
        if retried:
            completed.reopen(self.db, [backfill.id], FAILED_RETRY_HOURS)
        if resumed or retried:
            self.queues.request_plan(backfill.repository_id)
        status = backfills.of_repository(self.db, backfill.repository_id)
        return {"resumed": resumed, "retried": retried, "status": (status or backfill).status}

    def _priority(self, event: Mapping[str, Any]) -> Row:
        backfill = tracking.named(self.db, event["repository"])
        backfills.set_priority(self.db, backfill.id, event["priority"])
        return {"priority": event["priority"]}

    def _gaps(self, event: Mapping[str, Any]) -> Row:
        """Pull requests that are missing in whole or in part, in the order of their numbers; ``counts`` of all of them.

        Without ``unread`` those are left out that are only not read yet.
        """
        backfill = tracking.named(self.db, event["repository"])
        found = gaps.of_repository(
            self.db,
            backfill.repository_id,
            after=event.get("after", 0),
            limit=MOST_GAPS + 1,
            unread=event.get("unread", True),
        )
        page = fitting([asdict(each) for each in found[:MOST_GAPS]])
        return {
            "gaps": page,
            "counts": gaps.counts(self.db, backfill.repository_id),
            "more": len(page) < len(found),
            "after": page[-1]["number"] if page else 0,
        }

    def _names(self, event: Mapping[str, Any]) -> Row:
        """Names of tracked repositories that begin so, for a shell that completes them."""
        return {"names": names.beginning_with(self.db, event.get("prefix", ""))}

    def _chunks(self, event: Mapping[str, Any]) -> Row:
        """The newest chunks of a repository, or those of one ``status``."""
        backfill = tracking.named(self.db, event["repository"])
        found = chunk_history.newest(self.db, backfill.id, event.get("limit", MOST_CHUNKS), event.get("status"))
        return {"chunks": fitting([asdict(each) for each in found])}

    def _doctor(self, _: Mapping[str, Any]) -> Row:
        """What this stack finds when it looks at itself; nothing is written."""
        found = diagnosing.examine(self.db, self.github, self.queues)
        return {"version": __version__, "schema": found.schema, "checks": [asdict(each) for each in found.checks]}

    def _sync(self, event: Mapping[str, Any]) -> Row:
        """Ask a worker to read pull requests now. ``missing``: numbers that GitHub does not have; ``waits``: why it takes longer."""
        backfill = tracking.named(self.db, event["repository"])
        wanted = sorted(set(event["pr_numbers"]))
        missing = self._missing(backfill, wanted)
        if len(missing) == len(wanted):
            numbers = ", ".join(f"#{number}" for number in missing)
            raise ContractViolation("pr_numbers", f"GitHub has no pull request {numbers} in {event['repository']}")
        some = [number for number in wanted if number not in missing]
        asked_at = backfills.now(self.db)
        self.queues.send_body(json.dumps({"schema_version": 1, "repository": event["repository"], "pr_numbers": some}))
        answer: Row = {"requested": len(some), "asked_at": asked_at}
        if missing:
            answer["missing"] = missing
        if backfill.status == "paused" and backfill.paused_until is not None:
            until = f"{backfill.paused_until:%Y-%m-%d %H:%M} UTC"
            answer["waits"] = f"the backfill is paused ({backfill.pause_reason}) until {until}, or until you resume it"
        return answer

    def _synced(self, event: Mapping[str, Any]) -> Row:
        """What became of a sync request that was made at ``since``: a row per number, with ``state`` and ``reason``."""
        backfill = tracking.named(self.db, event["repository"])
        try:
            since = datetime.fromisoformat(event["since"])
        except ValueError as error:
            raise ContractViolation("since", f"must be a time in ISO 8601 ({error})") from None
        synced = sync_requests.synced(self.db, backfill.id, sorted(set(event["pr_numbers"])), since)
        return {"pull_requests": [asdict(each) for each in synced]}

    def _missing(self, backfill: Backfill, wanted: list[int]) -> list[int]:
        """Numbers that are not stored, and of which GitHub says that it has no such pull request."""
        known = {row["number"] for row in pull_requests.by_numbers(self.db, backfill.repository_id, wanted)}
        repository = repositories.get(self.db, backfill.repository_id)
        unknown = [number for number in wanted if number not in known]
        if not unknown or repository is None:
            return []
        try:
            return self.github.list_numbers(repository.node_id, unknown).missing
        except (Deferred, Retryable, Permanent) as error:
            # The worker finds out, and its chunk says so.
            log(
                "numbers could not be looked up",
                repository=repository.full_name,
                error=str(error),
            )
            return []

    def _dead_letters(self, event: Mapping[str, Any]) -> Row:
        """As many as an answer holds; ``hidden`` are those that recovery or another command has in hand."""
        waiting = self.queues.dead_letters_waiting()
        letters = self.queues.dead_letters(MOST_LETTERS, hidden_seconds=LOOK_SECONDS)
        rows = [{"message_id": each.message_id, "reason": each.reason, "body": each.body} for each in letters]
        shown = fitting(rows)
        return {
            "dead_letters": shown,
            "more": len(rows) - len(shown),
            "hidden": max(0, waiting - len(letters)),
        }

    def _redrive(self, event: Mapping[str, Any]) -> Row:
        """Send every dead letter again as it is, to the queue that it comes from; each is deleted only after it was sent."""
        waiting = self.queues.dead_letters_waiting()
        letters = self.queues.dead_letters(MOST_LETTERS)
        for letter in letters:
            self.queues.redrive(letter)
            self.queues.delete_dead_letter(letter)
        return {"redriven": len(letters), "hidden": max(0, waiting - len(letters))}

    def _discard(self, event: Mapping[str, Any]) -> Row:
        """Delete the dead letters that are named, or all; each leaves a line in the log."""
        wanted = set(event.get("message_ids", ()))
        waiting = self.queues.dead_letters_waiting()
        seen = self.queues.dead_letters(MOST_LETTERS, hidden_seconds=DISCARD_SECONDS)
        letters = [each for each in seen if not wanted or each.message_id in wanted]
        for letter in letters:
            log("a dead letter was discarded", message_id=letter.message_id, reason=letter.reason)
            self.queues.delete_dead_letter(letter)
        missing = wanted - {each.message_id for each in letters}
        return {"discarded": len(letters), "missing": sorted(missing), "hidden": max(0, waiting - len(seen))}


def fitting(rows: Sequence[Row]) -> list[Row]:
    """The first rows, as many as one answer holds, and at least one."""
    size, page = 0, list[Row]()
    for row in rows:
        size += len(json.dumps(_plain(row)))
        if page and size > PAGE_BYTES:
            break
        page.append(row)
    return page


def _plain(value: Any) -> Any:
    """As JSON takes it: times in ISO 8601, numerics as numbers, uuids as text."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
