"""One thing that `backfill doctor` looked at: what it found, and what to do where that is not right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    """``warned``: it works, and somebody should know; also what could not be looked at."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """``advice`` is empty where the result is passed."""

    name: str
    result: Result
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """As the console and the command answer it."""
        return {"name": self.name, "result": self.result.value, "found": self.found, "advice": self.advice}

    @classmethod
    def from_json(cls, answer: Mapping[str, str]) -> Check:
        """From the console's answer."""
        return cls(answer["name"], Result(answer["result"]), answer["found"], answer["advice"])

    @classmethod
    def passed(cls, name: str, found: str) -> Check:
        """Nothing to do."""
        return cls(name, Result.PASSED, found)

    @classmethod
    def warned(cls, name: str, found: str, advice: str) -> Check:
        """Something to know, and what to do about it."""
        return cls(name, Result.WARNED, found, advice)

    @classmethod
    def failed(cls, name: str, found: str, advice: str) -> Check:
        """Something that does not work, and what to do about it."""
        return cls(name, Result.FAILED, found, advice)
