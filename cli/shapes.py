"""The JSON of each command. Fields stay; new ones may come. docs/commands.md shows them, a test compares them.

A field that ends with ? may be missing; ``*`` is any name.
"""

from __future__ import annotations

from typing import Any

Shape = Any

_CONDITION = {"code": "text", "kind": "text", "why": "text"}
_BACKFILL = {
    "repository": "text",
    "repository_id": "text",
    "backfill_id": "text",
    "url": "text or null",
    "status": "text",
    "priority": "text or null",
    "condition": _CONDITION,
    "total_prs": "number",
    "listed_prs": "number",
    "processed_prs": "number",
    "failed_prs": "number",
    "incomplete_prs": "number",
    "percent": "number or null",
    "prs_per_hour": "number or null",
    "points_spent": "number",
    "requests_made": "number",
    "chunk_size": "number",
    "chunks": {"pending": "number", "processing": "number", "failed": "number", "expired_leases": "number"},
    "estimated_finish": "time or null",
    "waiting_until": "time or null",
    "pause_reason": "text or null",
    "paused_until": "time or null",
    "consecutive_errors": "number",
    "last_error": "text or null",
    "last_error_at": "time or null",
    "last_processed_at": "time or null",
    "listing_completed_at": "time or null",
    "scan_until": "time or null",
    "created_at": "time",
    "progressed_at": "time or null",
    "checked_at": "time",
    "stalled": "true or false",
    "unchecked": "true or false",
    "due": "number",
    "next_at": "time or null",
    "next_code": "text or null",
    "next_error": "text or null",
}
_BUDGET = {
    "identity": "text",
    "limit": "number or null",
    "remaining": "number or null",
    "reset_at": "time or null",
    "blocked_until": "time or null",
    "slowness": "number",
    "waits_until": "time or null",
    "wait_reason": "text or null",
    "account": "text or null",
    "former_account": "text or null",
    "suspended_at": "time or null",
}
_FORESEEN = {
    "pull_requests_to_list": "number",
    "pull_requests_to_detail": "number",
    "chunks": "number",
    "chunks_now": "number",
    "points": "number",
    "requests": "number",
    "server_seconds": "number",
    "seconds": "number",
    "finish": "time",
    "aws_usd": "number",
}
_CHUNK = {
    "chunk_number": "number",
    "status": "text",
    "pull_requests": "number",
    "attempts": "number",
    "created_at": "time",
    "started_at": "time or null",
    "completed_at": "time or null",
    "available_at": "time",
    "lease_expires_at": "time or null",
    "error_code": "text or null",
    "error": "text or null",
}

_ORGANISATION = {
    "organisation": "text",
    "is_user": "true or false or null",
    "is_listed": "true or false",
    "is_refused": "true or false",
    "listed_at": "time or null",
    "reason": "text or null",
    "total_repositories": "number or null",
    "hidden_repositories": "number or null",
}
_FOLLOWED = {
    "ok": "true or false",
    **_ORGANISATION,
    "rule": {"include": ["text"], "exclude": ["text"], "forks": "true or false", "archived": "true or false"},
    "tracked": "number",
    "removed": "number",
    "active": "number",
    "paused": "number",
    "completed": "number",
    "in_trouble": "number",
    "forks_left_out": "number",
    "archived_left_out": "number",
    "names_left_out": "number",
    "archived": "number",
    "gone": "number",
    "total_prs": "number",
    "processed_prs": "number",
    "points_spent": "number",
    "archived_names": ["text"],
    "gone_names": ["text"],
    "paused_names": ["text"],
}

SHAPES: dict[str, Shape] = {
    "add": {
        "repositories": [
            {
                "repository": "text",
                "repository_id": "text or null",
                "created": "true or false",
                "total_prs": "number",
                "changed?": {"*": {"from": "text or number", "to": "text or number"}},
                "waits?": "text",
            }
        ],
        "failed": [{"repository": "text", "error": "text"}],
    },
    "add --org": {**_FOLLOWED, "created": "true or false", "joined": "number", "waits?": "text"},
    "add --org --dry-run": {
        "ok": "true or false",
        "organisation": "text",
        "is_user": "true or false",
        "total_repositories": "number",
        "looked_at": "number",
        "hidden_repositories": "number or null",
        "fates": {
            "joins": "number",
            "tracked": "number",
            "removed": "number",
            "fork": "number",
            "archived": "number",
            "name": "number",
        },
        "pull_requests": "number",
        "points": "number",
    },
    "remove": {"ok": "true or false", "removed": "true or false", "done": "true or false"},
    "plan": {
        "dry_run": "true or false",
        "resumed": "number",
        "reopened": "number",
        "dead_letters": "number",
        "backfills": [
            {
                "repository?": "text",
                "repository_id": "text",
                "pages": "number",
                "chunks": "number",
                "sent": "number",
                "unsent?": "number",
                "completed?": "true or false",
                "skipped?": "text",
                "deferred_until?": "time",
                "deferred_seconds?": "number",
                "error?": "text",
            }
        ],
    },
    "plan --dry-run": {
        "dry_run": "true or false",
        "backfills": [
            {
                "repository": "text",
                "repository_id": "text or null",
                "status": "text",
                "identity": "text or null",
                "basis": "text",
                **_FORESEEN,
            }
        ],
        "total": _FORESEEN,
        "completed_to_examine": {"repositories": "number", "points": "number"},
        "budget": "any",
        "budgets": [_BUDGET],
    },
    "status": {
        "ok": "true or false",
        "backfills": [_BACKFILL],
        "counts": {"active": "number", "paused": "number", "completed": "number"},
        "budget": _BUDGET,
        "budgets": [_BUDGET],
        "dead_letters": "number",
        "requested": [
            {
                "repository": "text",
                "requested_at": "time",
                "ask_at": "time",
                "reason": "text or null",
                "is_refused": "true or false",
                "given_up_at": "time or null",
            }
        ],
        "organisations?": [_ORGANISATION],
        "advice": [{"identity": "text", "part": "text", "reason": "text", "advice": "text"}],
        "unknown?": ["text"],
    },
    "status --org": _FOLLOWED,
    "pause": {"ok": "true or false", "paused": "true or false"},
    "resume": {"ok": "true or false", "resumed": "true or false", "retried": "number", "status": "text"},
    "priority": {"ok": "true or false", "priority": "text"},
    "recover": {
        "dry_run": "true or false",
        "requeued": "number",
        "failed": "number",
        "lost": "number",
        "sent": "number",
        "dead_letters_matched": "number",
        "dead_letters_left": "number",
        "deleted": "number",
    },
    "recover --dry-run": {
        "dry_run": "true or false",
        "requeued": "number",
        "failed": "number",
        "lost": "number",
        "unsent": "number",
        "dead_letters": "number",
        "old": "number",
    },
    "gaps": {
        "ok": "true or false",
        "gaps": [
            {
                "number": "number",
                "reason": "text",
                "error_code": "text or null",
                "error": "text or null",
                "url": "text or null",
            }
        ],
        "counts": {"failed": "number", "incomplete": "number", "refused": "number", "unread": "number"},
        "more": "true or false",
    },
    "sync": {
        "ok": "true or false",
        "requested": "number",
        "asked_at": "time",
        "missing?": ["number"],
        "waits?": "text",
        "pull_requests?": [{"number": "number", "state": "text", "reason": "text or null"}],
    },
    "chunks": {"ok": "true or false", "chunks": [_CHUNK]},
    "logs": {"id": "text", "at": "number", "function": "text", "text": "text", "fields": {"*": "any"}},
    "open": {"url": "text"},
    "doctor": {
        "ok": "true or false",
        "version": "text",
        "checks": [{"name": "text", "result": "text", "found": "text", "advice": "text"}],
    },
    "dashboard": {"url": "text"},
    "dead-letters list": {
        "ok": "true or false",
        "dead_letters": [{"message_id": "text", "reason": "text or null", "body": "text"}],
        "more": "number",
        "hidden": "number",
    },
    "dead-letters redrive": {"ok": "true or false", "redriven": "number", "hidden": "number"},
    "dead-letters discard": {
        "ok": "true or false",
        "discarded": "number",
        "missing": ["text"],
        "hidden": "number",
    },
}
