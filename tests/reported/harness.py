"""A simulator whose replies a case may change, and a driver that lets time pass. Used by the cases beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import Simulator
from local.simulator.server import Answer
from local.simulator.viewers import EVERYBODY, Viewer

Node = dict[str, Any]


class Altered(Simulator):
    """``alter(answer, query, variables)`` changes a reply in place, or returns an Answer to send instead."""

    alter: Callable[[Node, str, Node], Answer | None] = staticmethod(lambda answer, query, variables: None)
    asked: int = 0

    def __enter__(self) -> Altered:
        super().__enter__()
        return self

    def answer(self, body: dict[str, Any], viewer: Viewer = EVERYBODY) -> Answer:
        self.asked += 1
        reply = super().answer(body, viewer)
        if reply.status != 200:
            return reply
        answer = json.loads(reply.body)
        changed = self.alter(answer, body["query"], body.get("variables") or {})
        if changed is not None:
            return changed
        return Answer(200, reply.headers, json.dumps(answer).encode(), reply.cut)


def pass_time(db: Database) -> None:
    """Every wait, block and pause of the system has ended."""
    db.execute("UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending' AND available_at > now()")
    db.execute("UPDATE github_budget SET blocked_until = now() WHERE blocked_until > now()")
    db.execute("UPDATE progressive_backfill_state SET paused_until = now() WHERE paused_until > now()")


def days(stack: Stack, rounds: int = 12) -> list[str]:
    """So many times: everything that is queued is handled, all waits end, the heartbeat comes. What the rounds ended in."""
    seen = []
    for _ in range(rounds):
        stack.run(between=lambda: pass_waits(stack.db), most=3000)
        state = stack.state()
        seen.append(f"{state['status']}/{state['pause_reason']} {state['processed_prs']}/{state['total_prs']}")
        if state["status"] == "completed":
            break
        pass_time(stack.db)
        stack.heartbeat()
    return seen


def pass_waits(db: Database) -> None:
    """Waits end; pauses stay."""
    db.execute("UPDATE backfill_chunks SET available_at = now() WHERE status = 'pending' AND available_at > now()")
    db.execute("UPDATE github_budget SET blocked_until = now() WHERE blocked_until > now()")


def listed_nodes(answer: Node) -> list[Any]:
    """The pull requests of a listing page."""
    node = (answer.get("data") or {}).get("node") or {}
    return (node.get("pullRequests") or {}).get("nodes") or []


def detailed(answer: Node) -> dict[str, Node]:
    """The pull requests of a detail reply, by alias."""
    node = (answer.get("data") or {}).get("node") or {}
    return {alias: each for alias, each in node.items() if alias[0] == "p" and alias[1:].isdigit() and each}
