"""The console knows every action that an event may ask for, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import backfill
from backfill.console import ACTIONS

SCHEMA = Path(backfill.__file__).parent / "schemas" / "console_event.json"


def test_every_action_of_the_contract_is_run_by_one_function() -> None:
    allowed = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]["action"]["enum"]
    assert sorted(ACTIONS) == sorted(allowed)
    assert len(set(ACTIONS.values())) == len(ACTIONS)
