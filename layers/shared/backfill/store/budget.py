"""github_budget: points and server time of one GitHub identity, shared by all workers. The database's clock counts.

The decisions are functions in the database (migrations/functions/budget_*.sql), each called in one round trip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from backfill.installations import Installation, Installed
from backfill.limits import FLOOR, SERVER_SHARE, Ask, Grant, Used
from backfill.store.connection import Database, Row

_RESERVE = """
    SELECT * FROM budget_reserve_v1(
        who => :identity, points => :points, expected_seconds => :expected_seconds, longest_wait_seconds => :longest_wait,
        share => :share, floor_share => :floor, is_dry_run => :is_dry_run)
"""
_SETTLE = """
    SELECT budget_settle_v1(
        who => :identity, points_window => :points_window, points => :points, spent => :spent, slot => :slot,
        expected_seconds => :expected_seconds, took_seconds => :took_seconds, share => :share, succeeded => :succeeded,
        reported_limit => :limit, reported_remaining => :remaining, reported_reset_seconds => :reset_seconds)
"""
# For the plots of the page, in the round trip that settles. The first request of an hour deletes the old hours.
_NOTE_REQUEST = """
    WITH noted AS (
        INSERT INTO github_hours (identity, hour, requests, server_seconds)
        VALUES (:identity, date_trunc('hour', now(), 'UTC'), 1, :took)
        ON CONFLICT (hour, identity) DO UPDATE SET requests = github_hours.requests + 1,
            server_seconds = github_hours.server_seconds + EXCLUDED.server_seconds
        RETURNING requests)
    DELETE FROM github_hours AS h USING noted AS n
    WHERE n.requests = 1 AND h.identity = :identity AND h.hour < now() - interval '90 days'
"""
_BLOCK = "SELECT * FROM budget_block_v1(who => :identity, wait_seconds => :seconds, kind => :kind, is_dry_run => :is_dry_run)"
_BLOCKED_SECONDS = """
    SELECT CAST(GREATEST(0, EXTRACT(epoch FROM present.blocked_until - clock_timestamp())) AS float8) AS seconds
    FROM github_budget AS b CROSS JOIN LATERAL budget_present_v1(b, clock_timestamp()) AS present
    WHERE b.identity = :identity
"""

_IDENTITY_OF = "SELECT identity FROM github_tokens WHERE token_sha256 = :token_hash"
_REMEMBER = """
    INSERT INTO github_tokens (token_sha256, identity) VALUES (:token_hash, :identity)
    ON CONFLICT (token_sha256) DO UPDATE SET identity = EXCLUDED.identity
"""

_INSTALLED = """
    SELECT identity, account, former_account, repository_selection, suspended_at, lacks,
           CAST(EXTRACT(epoch FROM now() - listed_at) AS float8) AS age_seconds
    FROM github_installations WHERE app_id = :app_id ORDER BY identity
"""
_KEEP_INSTALLED = """
    WITH listed AS (
        SELECT * FROM jsonb_to_recordset(:installations) AS i(
            identity text, account text, repository_selection text, suspended_at timestamptz, lacks text[])),
    forgotten AS (DELETE FROM github_installations WHERE identity NOT IN (SELECT identity FROM listed))
    INSERT INTO github_installations (identity, app_id, account, repository_selection, suspended_at, lacks)
    SELECT identity, :app_id, account, repository_selection, suspended_at, lacks FROM listed ORDER BY identity
    ON CONFLICT (identity) DO UPDATE SET
        app_id = EXCLUDED.app_id, account = EXCLUDED.account, repository_selection = EXCLUDED.repository_selection,
        suspended_at = EXCLUDED.suspended_at, lacks = EXCLUDED.lacks, listed_at = now(),
        former_account = CASE WHEN github_installations.account <> EXCLUDED.account THEN github_installations.account
                              ELSE github_installations.former_account END
"""

# After a day the operator may have granted the scope. Then the part is requested again.
_WITHHELD = """
    SELECT part, reason FROM github_withheld WHERE identity = :identity AND since > now() - interval '1 day'
"""
_WITHHOLD = """
    INSERT INTO github_withheld (identity, part, reason) VALUES (:identity, :part, :reason)
    ON CONFLICT (identity, part) DO UPDATE SET reason = EXCLUDED.reason, since = now()
"""
# The operator cannot change how many fields a document may have.
_ADVICE = """
    SELECT identity, part, reason FROM github_withheld
    WHERE since > now() - interval '2 days' AND part NOT LIKE 'fields:%' ORDER BY 1, 2
"""

# The identities that were used lately, the last one first, and those of the App that were not. Past its reset a window is full.
# A list of installations that is old is of an App that is not in the secret any more.
_KNOWN = """
    SELECT COALESCE(p.identity, i.identity) AS identity, i.account, i.former_account, i.suspended_at, p.points_limit AS limit,
           CASE WHEN p.reset_at <= now() THEN p.points_limit ELSE p.remaining END AS remaining,
           CASE WHEN p.reset_at > now() THEN p.reset_at END AS reset_at, p.blocked_until, COALESCE(p.slowness, 1.0) AS slowness,
           CASE WHEN p.blocked_until > now() THEN p.blocked_until
                WHEN p.reset_at > now() AND p.remaining - p.reserved < CAST(:floor AS float8) * p.points_limit THEN p.reset_at
           END AS waits_until,
           CASE WHEN p.blocked_until > now() THEN 'GitHub''s ' || COALESCE(p.block_reason, '') || ' rate limit'
                ELSE 'points are at their floor' END AS wait_reason
    FROM (SELECT present.* FROM github_budget AS b CROSS JOIN LATERAL budget_present_v1(b, clock_timestamp()) AS present
          WHERE present.updated_at > now() - interval '2 hours'
             OR present.updated_at = (SELECT max(updated_at) FROM github_budget)) AS p
    FULL JOIN (SELECT * FROM github_installations WHERE listed_at > now() - interval '2 hours') AS i USING (identity)
    ORDER BY p.updated_at DESC NULLS LAST, i.identity
"""


class PostgresBudget:
    """The budget of the governor, and what credentials remember of tokens."""

    _is_dry_run = False

    def __init__(self, db: Database) -> None:
        self._db = db

    def reserve(self, ask: Ask, longest_wait: float) -> Grant:
        """Reserve points and a slot that begins within ``longest_wait`` seconds, or say why not. The first request of an identity
        inserts its row."""
        row = self._db.only(
            _RESERVE,
            identity=ask.identity,
            points=ask.points,
            expected_seconds=ask.expected_seconds,
            longest_wait=longest_wait,
            share=SERVER_SHARE,
            floor=FLOOR,
            is_dry_run=self._is_dry_run,
        )
        return Grant(**row)

    def settle(self, ask: Ask, grant: Grant, used: Used) -> None:
        """Give the reservation back, correct the slot, and store what GitHub reported."""
        settling = {
            "identity": ask.identity,
            "points": ask.points,
            "expected_seconds": ask.expected_seconds,
            "points_window": grant.points_window,
            "slot": grant.slot,
            "spent": used.spent,
            "took_seconds": used.took_seconds,
            "succeeded": used.succeeded,
            "limit": used.limit,
            "remaining": used.remaining,
            "reset_seconds": used.reset_seconds,
            "share": SERVER_SHARE,
        }
        # A slot that was given back unused took no time: no request was sent.
        noted = (
            [(_NOTE_REQUEST, {"identity": ask.identity, "took": used.took_seconds})] if used.took_seconds > 0 else []
        )
        self._db.pipeline([(_SETTLE, settling), *noted])

    def block(self, identity: str, seconds: float | None, kind: str) -> tuple[datetime, float]:
        """Stop every worker of this identity; until when, and for how many seconds. Without ``seconds`` the wait doubles each time."""
        row = self._db.only(_BLOCK, identity=identity, seconds=seconds, kind=kind, is_dry_run=self._is_dry_run)
        return row["until"], row["seconds"]

    def blocked_seconds(self, identity: str) -> float:
        """How long the present block lasts; 0 without one."""
        row = self._db.one(_BLOCKED_SECONDS, identity=identity)
        return row["seconds"] if row else 0.0

    def withheld(self, identity: str) -> dict[str, str]:
        """Parts of queries that this identity may not ask for, with GitHub's reason."""
        return {row["part"]: row["reason"] for row in self._db.rows(_WITHHELD, identity=identity)}

    def withhold(self, identity: str, part: str, reason: str) -> None:
        """Remember such a part, for a day."""
        self._db.execute(_WITHHOLD, identity=identity, part=part, reason=reason[:500])

    def identity_of(self, token_hash: str) -> str | None:
        """The identity of a token, by its SHA-256 in hexadecimal; None for a new token."""
        row = self._db.one(_IDENTITY_OF, token_hash=token_hash)
        return row["identity"] if row else None

    def remember_identity(self, token_hash: str, identity: str) -> None:
        """Keep the identity of a token."""
        self._db.execute(_REMEMBER, token_hash=token_hash, identity=identity)

    def installed(self, app_id: str) -> Installed | None:
        """The App's installations as they were listed last; None without one."""
        rows = self._db.rows(_INSTALLED, app_id=app_id)
        return (
            Installed([_installation(row) for row in rows], max(row["age_seconds"] for row in rows)) if rows else None
        )

    def keep_installed(self, app_id: str, listed: Installed) -> None:
        """Replace the list."""
        installations = [{**asdict(each), "identity": each.identity} for each in listed.installations]
        self._db.execute(_KEEP_INSTALLED, app_id=app_id, installations=json.dumps(installations, default=str))


class ObservedBudget(PostgresBudget):
    """The budget of dry runs. It decides in the same way and writes nothing, so the few requests are booked nowhere."""

    _is_dry_run = True

    def settle(self, ask: Ask, grant: Grant, used: Used) -> None:
        """Nothing was reserved."""

    def withhold(self, identity: str, part: str, reason: str) -> None:
        """The next run that may write will."""

    def remember_identity(self, token_hash: str, identity: str) -> None:
        """The next run that may write will."""

    def keep_installed(self, app_id: str, listed: Installed) -> None:
        """The next run that may write will."""


def _installation(row: Row) -> Installation:
    number = int(row["identity"].removeprefix("installation:"))
    its = {name: row[name] for name in ("account", "repository_selection", "suspended_at", "former_account")}
    return Installation(number, **its, lacks=tuple(row["lacks"]))


def advice(db: Database) -> list[Row]:
    """What tokens lack: ``identity``, ``part`` (of documents) and GitHub's ``reason``, of the last two days."""
    return db.rows(_ADVICE)


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget of one identity. ``limit`` and ``remaining`` are None where this GitHub limits nothing, or was not asked yet.

    ``account``: the owner on whom the App is installed. ``waits_until`` is None while requests may be sent. ``slowness`` is
    GitHub's time divided by the published figures.
    """

    identity: str
    limit: int | None
    remaining: int | None
    reset_at: datetime | None
    blocked_until: datetime | None
    slowness: float
    waits_until: datetime | None
    wait_reason: str | None
    account: str | None = None
    former_account: str | None = None
    suspended_at: datetime | None = None


class Budgets:
    """The budgets of all identities, the one that was used last first.

    ``accounts``: by the login of an owner on whom the App is installed, in lower case, before and after a rename. ``default`` is of
    what no installation covers: a token's, else that of the oldest installation.
    """

    def __init__(self, known: Sequence[Budget]) -> None:
        self.known = known
        self.latest = known[0] if known else None
        former = {each.former_account.lower(): each for each in known if each.former_account}
        self.accounts: Mapping[str, Budget] = former | {each.account.lower(): each for each in known if each.account}
        others = (each for each in known if not each.account)
        usable = (each for each in known if each.account and not each.suspended_at)
        oldest = min(usable, key=lambda each: int(each.identity.removeprefix("installation:")), default=None)
        self.default = next(others, oldest)

    def of(self, owner: str) -> Budget | None:
        """The budget from which an owner's repositories are read."""
        return self.accounts.get(owner.lower()) or self.default


def budgets(db: Database) -> Budgets:
    """The budgets as they are now."""
    return Budgets([Budget(**row) for row in db.rows(_KNOWN, floor=FLOOR)])
