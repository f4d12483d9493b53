"""What an operator does: add, watch, pause, resume, set the priority, find gaps, sync, deal with dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from backfill import __version__, diagnosing, letters, naming, organisations, tracking
from backfill.answers import Json, fitting, plain
from backfill.errors import ContractViolation, Deferred, Permanent, Retryable
from backfill.github.client import GitHub
from backfill.github.errors import RepositoryUnavailable
from backfill.messages import console_event, sync_body
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
from backfill.store.organisations import Settings

Event = Mapping[str, Any]

# One answer's share of deleting a repository's data.
DELETING_SECONDS = 10.0
# Before every uuid.
FIRST_ID = "00000000-0000-0000-0000-000000000000"
# After every uuid.
LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
# Rows that a page reads from the database, at the most.
MOST_GAPS = 2_000
# Chunks of one answer, unless more are asked for.
MOST_CHUNKS = 20


@dataclass(frozen=True, slots=True)
class Console:
    """One action per call. Every answer is plain JSON."""

    db: Database
    github: GitHub
    queues: Queues

    def act(self, event: Event) -> Json:
        """Run ``event["action"]``. Raises ContractViolation for an event that breaks the contract."""
        fields = console_event(event)
        answer = ACTIONS[fields["action"]](self, fields)
        return {"ok": True, **plain(answer)}

    def add(self, event: Event) -> Json:
        """Names are accepted at once. What GitHub cannot answer for yet, the planner asks again."""
        metadata = _metadata(event)
        if "organisation" in event:
            settings = Settings(event.get("rule", {}), metadata, event.get("chunk_size"))
            if event.get("dry_run"):
                return organisations.preview(self.db, self.github, event["organisation"], settings).as_json()
            return organisations.add(self.db, self.github, self.queues, event["organisation"], settings)
        asked = event["repositories"] if "repositories" in event else [event["repository"]]
        pairs = [each.split("/") for each in dict.fromkeys(asked)]
        wanted = [Wanted(owner, name, event.get("chunk_size"), metadata) for owner, name in pairs]
        fates = naming.add(self.db, self.github, self.queues, wanted)
        if "repositories" in event:
            return {"repositories": [_fate(*each) for each in zip(wanted, fates, strict=True)]}
        if isinstance(fates[0], Permanent):
            raise RepositoryUnavailable(str(fates[0]))
        return _fate(wanted[0], fates[0])

    def remove(self, event: Event) -> Json:
        """Track a repository no more. ``done`` is false while there is data left to delete: then ask again."""
        if "organisation" in event:
            organisations.remove(self.db, event["organisation"])
            return {"removed": True, "done": True}
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

    def status(self, event: Event) -> Json:
        """Active backfills first, then paused ones, then those completed last; ``stored`` counts rows, which takes time.

        A page of all: with ``page`` they come in the order of their ids, ``after`` that of the last one.
        """
        if "organisation" in event:
            return organisations.status(self.db, event["organisation"])
        backfill = tracking.find(self.db, event["repository"]) if "repository" in event else None
        if "repository" in event and backfill is None:
            return self._accepted(event)
        only = backfill.repository_id if backfill else None
        after = event.get("after_id", FIRST_ID) if event.get("paged") else None
        answer = overview(self.db, self.queues, only, after).as_json()
        rows = [_row(each) for each in answer["backfills"]]
        page = fitting(rows)
        if event.get("stored"):
            for row in page:
                row["stored"] = progress.stored(self.db, row["repository_id"])
        return {
            **answer,
            "backfills": page,
            "requested": answer["requested"] if only is None else [],
            "organisations": organisations.all_of_them(self.db) if only is None else [],
            "more": len(page) < len(rows) or (len(rows) == MOST_BACKFILLS and only is None),
            "after_id": page[-1]["backfill_id"] if page else FIRST_ID,
        }

    def _accepted(self, event: Event) -> Json:
        """The status of a name that is accepted and not a backfill yet. Raises ContractViolation for any other."""
        wanted = event["repository"].lower()
        waiting = [asdict(each) for each in names.requested(self.db) if each.repository.lower() == wanted]
        if not waiting:
            tracking.named(self.db, event["repository"])
        seen = overview(self.db, self.queues, None, LAST_ID)
        return {**seen.as_json(), "requested": waiting, "more": False, "after_id": FIRST_ID}

    def plan(self, event: Event) -> Json:
        """Ask for a planner run of one repository, or of all."""
        backfill = tracking.named(self.db, event["repository"]) if "repository" in event else None
        if backfill and backfill.status == "paused":
            raise ContractViolation("repository", f"{event['repository']} is paused; resume it first")
        self.queues.request_plan(backfill.repository_id if backfill else None)
        return {"requested": True}

    def pause(self, event: Event) -> Json:
        backfill = tracking.named(self.db, event["repository"])
        return {"paused": backfills.pause(self.db, backfill.id, "manual", minutes=None)}

    def resume(self, event: Event) -> Json:
        """A paused backfill goes on. One that is active or completed stays so, unless failed pull requests are retried."""
        backfill = tracking.named(self.db, event["repository"])
        retried = pull_requests.retry_failed(self.db, backfill.repository_id) if event.get("retry_failed") else 0
        resumed = backfills.resume(self.db, backfill.id)
        if retried:
            completed.reopen(self.db, [backfill.id])
        if resumed or retried:
            self.queues.request_plan(backfill.repository_id)
        status = backfills.of_repository(self.db, backfill.repository_id)
        return {"resumed": resumed, "retried": retried, "status": (status or backfill).status}

    def priority(self, event: Event) -> Json:
        backfill = tracking.named(self.db, event["repository"])
        backfills.set_priority(self.db, backfill.id, event["priority"])
        return {"priority": event["priority"]}

    def gaps(self, event: Event) -> Json:
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

    def names(self, event: Event) -> Json:
        """Names of tracked repositories that begin so, for a shell that completes them."""
        return {"names": names.beginning_with(self.db, event.get("prefix", ""))}

    def chunks(self, event: Event) -> Json:
        """The newest chunks of a repository, or those of one ``status``."""
        backfill = tracking.named(self.db, event["repository"])
        found = chunk_history.newest(self.db, backfill.id, event.get("limit", MOST_CHUNKS), event.get("status"))
        return {"chunks": fitting([asdict(each) for each in found])}

    def version(self, _: Event) -> Json:
        """The version of this stack, for a command that checks whether it fits."""
        return {"version": __version__}

    def doctor(self, _: Event) -> Json:
        """What this stack finds when it looks at itself; nothing is written."""
        found = diagnosing.run_checks(self.db, self.github, self.queues)
        return {"version": __version__, "schema": found.schema, "checks": [each.as_json() for each in found.checks]}

    def sync(self, event: Event) -> Json:
        """Ask a worker to read pull requests now. ``missing``: numbers that GitHub does not have; ``waits``: why it takes longer."""
        backfill = tracking.named(self.db, event["repository"])
        wanted = sorted(set(event["pr_numbers"]))
        missing = self._missing(backfill, wanted)
        if len(missing) == len(wanted):
            numbers = ", ".join(f"#{number}" for number in missing)
            raise ContractViolation("pr_numbers", f"GitHub has no pull request {numbers} in {event['repository']}")
        some = [number for number in wanted if number not in missing]
        asked_at = backfills.now(self.db)
        self.queues.send_body(sync_body(event["repository"], some))
        answer: Json = {"requested": len(some), "asked_at": asked_at}
        if missing:
            answer["missing"] = missing
        if backfill.status == "paused" and backfill.paused_until is not None:
            until = f"{backfill.paused_until:%Y-%m-%d %H:%M} UTC"
            answer["waits"] = f"the backfill is paused ({backfill.pause_reason}) until {until}, or until you resume it"
        return answer

    def synced(self, event: Event) -> Json:
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
            return self.github.of(repository.owner).list_numbers(repository.node_id, unknown).missing
        except (Deferred, Retryable, Permanent) as error:
            # The worker finds out, and its chunk says so.
            log(
                "numbers could not be looked up",
                repository=repository.full_name,
                error=str(error),
            )
            return []

    def dead_letters(self, _: Event) -> Json:
        """As many as an answer holds. ``hidden``: those that recovery or another command has in hand."""
        seen = letters.look(self.queues)
        rows = [{"message_id": each.message_id, "reason": each.reason, "body": each.body} for each in seen.letters]
        shown = fitting(rows)
        return {"dead_letters": shown, "more": len(rows) - len(shown), "hidden": seen.hidden}

    def redrive(self, _: Event) -> Json:
        """Send every dead letter again."""
        return asdict(letters.redrive(self.queues))

    def discard(self, event: Event) -> Json:
        """Delete the dead letters that are named, or all."""
        return asdict(letters.discard(self.queues, frozenset(event.get("message_ids", ()))))


def _metadata(event: Event) -> dict[str, str]:
    """What an add names of the settings that a backfill keeps in its metadata."""
    metadata = {}
    if "priority" in event:
        metadata["priority"] = event["priority"]
    if "oldest_first" in event:
        metadata["order"] = "oldest_first" if event["oldest_first"] else "newest_first"
    if "timeline" in event:
        metadata["timeline"] = "on" if event["timeline"] else "off"
    return metadata


def _fate(wanted: Wanted, fate: naming.Tracked | naming.Accepted | Permanent) -> Json:
    """What became of one name: a backfill, an error, or accepted (``waits``: for what)."""
    if isinstance(fate, Permanent):
        return {"repository": wanted.full_name, "error": str(fate)}
    if isinstance(fate, naming.Accepted):
        answer: Json = {"repository": wanted.full_name, "repository_id": None, "created": True, "total_prs": 0}
        return {**answer, "waits": fate.why}
    answer = {
        "repository": fate.repository.full_name,
        "repository_id": fate.repository.id,
        "created": fate.created,
        "changed": {name: {"from": old, "to": new} for name, (old, new) in fate.changed.items()},
        "total_prs": fate.total_prs,
    }
    return answer if fate.paused is None else {**answer, "paused": fate.paused}


def _row(shown: Json) -> Json:
    """A backfill of the status. The counts of its chunks are an object of their own."""
    chunks = {name: shown[name] for name in _CHUNKS}
    others = {name: value for name, value in shown.items() if name not in _CHUNKS}
    return {**others, "chunks": chunks, "condition": asdict(shown["condition"])}


_CHUNKS = ("pending", "processing", "failed", "expired_leases")
# What each action of schemas/console_event.json runs.
ACTIONS: Mapping[str, Callable[[Console, Event], Json]] = {
    "add": Console.add,
    "remove": Console.remove,
    "status": Console.status,
    "pause": Console.pause,
    "plan": Console.plan,
    "resume": Console.resume,
    "priority": Console.priority,
    "gaps": Console.gaps,
    "names": Console.names,
    "chunks": Console.chunks,
    "doctor": Console.doctor,
    "version": Console.version,
    "sync": Console.sync,
    "synced": Console.synced,
    "dead_letters": Console.dead_letters,
    "redrive": Console.redrive,
    "discard": Console.discard,
}
