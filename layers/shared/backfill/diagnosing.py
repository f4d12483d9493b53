"""What a deployed stack finds when it looks at itself: Postgres, the schema, dead letters, GitHub and its token. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from backfill.checks import Check
from backfill.errors import DatabaseUnavailable, Deferred, Permanent, Retryable
from backfill.github.client import GitHub, TokenFacts
from backfill.github.finding import Found
from backfill.installations import Installed
from backfill.queues import Queues
from backfill.store import health
from backfill.store.connection import Database

# A token that ends sooner is worth a warning.
EXPIRES_SOON_DAYS = 14
# Repositories of one request that asks what the token may read.
MOST_REPOSITORIES = 100
# Accounts that a check names.
MOST_NAMED = 5
# Scopes of a classic token that let it read private repositories, and the teams that were asked to review.
REPOSITORY_SCOPE, ORGANISATION_SCOPE = "repo", "read:org"
ORGANISATION_SCOPES = frozenset({ORGANISATION_SCOPE, "write:org", "admin:org"})


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``schema`` is the number of the newest migration; empty where Postgres could not tell."""

    schema: str
    checks: Sequence[Check]


def run_checks(db: Database, github: GitHub, queues: Queues) -> Diagnosis:
    """Look at everything; what fails does not keep the rest from being looked at."""
    try:
        server = health.server(db)
    except DatabaseUnavailable as error:
        away = Check.failed("database", str(error), "check the database secret, the subnets and the security groups")
        return Diagnosis("", [away, _dead_letters(queues)])
    return Diagnosis(server.schema, [_database(server), _dead_letters(queues), *_github(db, github)])


def _github(db: Database, github: GitHub) -> list[Check]:
    """GitHub is asked under the budget, which is kept in Postgres."""
    try:
        return _token(db, github)
    except DatabaseUnavailable as error:
        return [Check.warned("GitHub", f"not asked: {error}", "see database")]


def _database(server: health.Server) -> Check:
    found = f"PostgreSQL {server.version}, schema {server.schema or 'missing'}"
    if server.is_standby:
        return Check.failed("database", f"{found}, a standby", "name the primary in the database secret")
    if server.is_read_only:
        return Check.failed(
            "database", f"{found}, takes no writes", "see default_transaction_read_only of role and database"
        )
    return Check.passed("database", found)


def _dead_letters(queues: Queues) -> Check:
    waiting = queues.dead_letters_waiting()
    if waiting:
        return Check.warned("dead letters", f"{waiting:,} waiting", "run: backfill dead-letters list")
    return Check.passed("dead letters", "none")


def _token(db: Database, github: GitHub) -> list[Check]:
    try:
        facts = github.token_facts()
    except Deferred as limit:
        until = f"{limit.until.astimezone(UTC):%H:%M} UTC"
        return [Check.warned("GitHub", f"waits until {until}: {limit.reason}", "run backfill doctor again then")]
    except (Permanent, Retryable) as error:
        if isinstance(error, DatabaseUnavailable):
            raise
        return [Check.failed("GitHub", str(error), "put a valid token into the GitHub secret, or check GITHUB_API_URL")]
    its = [_identity(facts), _scopes(facts), _expiry(facts, datetime.now(UTC)), _budget(facts)]
    return [*its, *_installations(github.installed()), *_access(db, github)]


def _identity(facts: TokenFacts) -> Check:
    return Check.passed("GitHub token", f"is of {facts.identity}")


def _installations(listed: Installed | None) -> list[Check]:
    """Whether an App that finds its installations may read everything on all of them."""
    if listed is None:
        return []
    found = f"installed on {len(listed.installations):,} accounts"
    suspended = [each.account for each in listed.installations if each.suspended_at]
    lacking = [f"{each.account} does not grant {', '.join(each.lacks)}" for each in listed.installations if each.lacks]
    if suspended:
        return [Check.warned("GitHub App", f"{found}, suspended by {_some(suspended)}", "its owner unsuspends it")]
    if lacking:
        return [
            Check.warned("GitHub App", f"{found}; {_some(lacking)}", "give the App read access; each owner accepts it")
        ]
    return [Check.passed("GitHub App", found)]


def _some(words: Sequence[str]) -> str:
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _scopes(facts: TokenFacts) -> Check:
    if facts.scopes is None:
        return Check.passed("token scopes", "none: its permissions are those of an app or a fine-grained token")
    found = ", ".join(facts.scopes) or "no scope"
    if not ORGANISATION_SCOPES & set(facts.scopes):
        return Check.warned(
            "token scopes", found, f"without {ORGANISATION_SCOPE} requested teams are not stored: grant it"
        )
    if REPOSITORY_SCOPE not in facts.scopes:
        return Check.warned(
            "token scopes", found, f"without {REPOSITORY_SCOPE} private repositories are hidden: grant it"
        )
    return Check.passed("token scopes", found)


def _expiry(facts: TokenFacts, now: datetime) -> Check:
    if facts.expires_at is None:
        return Check.passed("token expiry", "GitHub names none")
    days = (facts.expires_at - now).days
    found = f"expires on {facts.expires_at:%Y-%m-%d}"
    # GitHub says of an app's token when it ends, within the hour; the next one is made by itself.
    if facts.identity.startswith("installation:"):
        return Check.passed("token expiry", "renewed by itself")
    if days < EXPIRES_SOON_DAYS:
        return Check.warned("token expiry", found, "put a new token into the GitHub secret; running functions read it")
    return Check.passed("token expiry", found)


def _budget(facts: TokenFacts) -> Check:
    if facts.limit is None or facts.remaining is None:
        return Check.passed("GitHub budget", "this GitHub limits nothing")
    return Check.passed("GitHub budget", f"{facts.remaining:,} of {facts.limit:,} points left")


def _access(db: Database, github: GitHub) -> list[Check]:
    """Whether the token, or each installation, sees what is tracked; single sign-on shows there, and nowhere else."""
    names = health.some_repositories(db, MOST_REPOSITORIES)
    if not names:
        return [Check.passed("repositories", "none is tracked yet: backfill add OWNER/NAME")]
    found: dict[str, Found | Permanent | Retryable] = {}
    try:
        for reader, its in github.by_identity(names, lambda each: each.owner).items():
            found |= reader.find([(each.owner, each.name) for each in its])
    except Deferred as limit:
        return [Check.warned("repositories", f"not asked for: {limit.reason}", "run backfill doctor again in a minute")]
    except (Permanent, Retryable) as error:
        if isinstance(error, DatabaseUnavailable):
            raise
        return [Check.failed("repositories", str(error), "authorise the token for single sign-on, or grant it access")]
    hidden = {name: answer for name, answer in found.items() if isinstance(answer, Permanent | Retryable)}
    if not hidden:
        return [Check.passed("repositories", f"the token sees {len(names):,} of {len(names):,} that were asked for")]
    first, why = next(iter(hidden.items()))
    text = f"the token does not see {len(hidden):,} of {len(names):,}, among them {first}: {why}"
    advice = "grant it access; for an organisation with single sign-on: Configure SSO beside the token on GitHub"
    return [Check.failed("repositories", text, advice)]
