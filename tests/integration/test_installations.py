"""One GitHub App, many installations: each owner's repositories are read as that owner's installation, with its own budget."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backfill.github.auth import Credentials
from backfill.github.errors import BadCredentials, RepositoryUnavailable
from backfill.github.transport import Transport
from backfill.messages import PlanEvent
from backfill.store import names
from backfill.store.budget import budgets
from backfill.store.connection import Database
from backfill.store.names import Wanted
from backfill.widget.table import points_left
from local.in_process import Stack
from local.simulator import App, Installation, Repository, Simulator, generate
from local.simulator.app_keys import AppKeys
from tests.integration.ageing import Ageing

KEYS = AppKeys.generate()
NAMES = {"acme/one": 30, "acme/two": 10, "globex/one": 30, "elsewhere/public": 10}


@pytest.fixture
def acme() -> Installation:
    return Installation("acme", 11)


@pytest.fixture
def globex() -> Installation:
    return Installation("globex", 22)


@pytest.fixture
def app(acme: Installation, globex: Installation) -> App:
    return KEYS.app(globex, acme)


@pytest.fixture
def simulator(app: App) -> Iterator[Simulator]:
    """What the installations cover is private."""
    with Simulator(generate(5, NAMES), speed=5000, app=app) as running:
        for name in ("acme/one", "acme/two", "globex/one"):
            running.repository_named(name).set(isPrivate=True)
        yield running


@pytest.fixture
def stack(db: Database, simulator: Simulator) -> Stack:
    return Stack(db, simulator, secret=KEYS.secret)


def private(stack: Stack, name: str) -> Repository:
    """A private repository that somebody creates."""
    (new,) = generate(7, {name: 3})
    new.set(isPrivate=True)
    stack.simulator.create(new)
    return new


def pass_minutes(stack: Stack, minutes: int) -> None:
    """For Postgres and for GitHub."""
    stack.simulator.clock_ahead += 60 * minutes
    Ageing(stack.db, [60 * minutes]).age(60 * minutes)


def go_on(stack: Stack) -> None:
    """The pause of the product ends."""
    pass_minutes(stack, 24 * 60)
    stack.heartbeat()
    stack.run()


def test_each_owner_is_read_as_its_installation_and_the_rest_as_the_default_identity(
    stack: Stack, simulator: Simulator, acme: Installation, globex: Installation
) -> None:
    for name in NAMES:
        stack.add(name, chunk_size=10)
    stack.run()
    stack.assert_equals_github()
    assert {stack.state(name)["status"] for name in NAMES} == {"completed"}
    # The oldest installation reads what none covers.
    assert {row["identity"] for row in stack.db.rows("SELECT identity FROM github_budget")} == {
        "installation:11",
        "installation:22",
    }
    asked = [len(simulator.limits_of(each).history) for each in (acme, globex)]
    assert min(asked) >= 5 and sum(asked) == simulator.served["requests"]
    # One list for all containers, and a token each.
    assert (simulator.served["installation_lists"], simulator.served["issued_tokens"]) == (1, 2)
    rows = stack.db.rows("SELECT identity, app_id, account, suspended_at, lacks FROM github_installations ORDER BY 1")
    assert [(row["identity"], row["account"]) for row in rows] == [
        ("installation:11", "acme"),
        ("installation:22", "globex"),
    ]


def test_a_token_beside_the_app_is_the_default_identity(db: Database, app: App) -> None:
    with Simulator(generate(5, NAMES), speed=5000, app=app, token="ghp_default") as simulator:
        stack = Stack(db, simulator, secret={**KEYS.secret, "token": "ghp_default"})
        stack.add("elsewhere/public")
        stack.add("acme/two")
        stack.run()
        identities = {row["identity"] for row in db.rows("SELECT identity FROM github_budget")}
        assert identities == {"user:viewer", "installation:11"}


@pytest.mark.parametrize("first", ({"token": "ghp_revoked"}, KEYS.secret), ids=("from a token", "from an App"))
def test_a_container_that_holds_a_refused_secret_goes_on_with_the_next_one(
    db: Database, simulator: Simulator, app: App, first: dict[str, str]
) -> None:
    secret = dict(first)
    stack = Stack(db, simulator, secret=secret)
    stack.github._credentials._read_secret = lambda _: dict(secret)  # type: ignore[attr-defined]
    app.public_key, key = AppKeys.generate().public, app.public_key
    with pytest.raises(BadCredentials):
        stack.add("acme/one")
    app.public_key = key
    secret.clear()
    if "token" in first:
        secret |= KEYS.secret
    else:
        secret["token"] = simulator.tokens.personal = "ghp_new"
        app.public_key = AppKeys.generate().public
    added = stack.console.act({"action": "add", "repositories": ["acme/one", "globex/one"]})
    assert [each["created"] for each in added["repositories"]] == [True, True], added
    pass_minutes(stack, 1)
    stack.heartbeat()
    stack.run()
    assert [stack.state(name)["status"] for name in ("acme/one", "globex/one")] == ["completed"] * 2
    identities = {row["identity"] for row in db.rows("SELECT identity FROM github_budget")}
    assert identities == ({"installation:11", "installation:22"} if "token" in first else {"user:viewer"})


def test_a_container_asks_for_the_owner_of_a_new_token_with_the_secret_as_it_is_now(db: Database) -> None:
    secret = {"token": "ghp_revoked"}
    with Simulator(generate(5, NAMES), speed=5000, token="ghp_new") as simulator:
        stack = Stack(db, simulator, secret=secret)
        stack.github._credentials._read_secret = lambda _: dict(secret)  # type: ignore[attr-defined]
        with pytest.raises(BadCredentials):
            stack.add("acme/one")
        secret["token"] = "ghp_new"
        assert stack.add("acme/one")


def test_the_list_of_installations_has_pages(db: Database) -> None:
    many = [Installation(f"owner{number:03}", number) for number in range(1, 251)]
    with Simulator(generate(5, {"owner250/one": 3}), speed=5000, app=KEYS.app(*many)) as simulator:
        assert (
            Credentials(Transport(simulator.url), lambda _: KEYS.secret).of("OWNER250").identity() == "installation:250"
        )
        assert simulator.served["installation_lists"] == 3


def test_a_private_repository_that_no_installation_covers_is_refused_and_found_once_the_app_is_installed(
    stack: Stack, app: App
) -> None:
    private(stack, "newcomer/private")
    with pytest.raises(
        RepositoryUnavailable, match="what no installation of the GitHub App covers; install the App on"
    ):
        stack.add("newcomer/private")
    app.installations.append(Installation("newcomer", 33))
    pass_minutes(stack, 2)
    stack.add("newcomer/private")
    stack.run()
    assert stack.state("newcomer/private")["status"] == "completed"


def test_a_suspended_installation_stops_its_repositories_alone_and_they_go_on_by_themselves(
    stack: Stack, acme: Installation
) -> None:
    for name in ("acme/one", "acme/two", "globex/one"):
        stack.add(name, chunk_size=5)
    stack.plan_once()
    stack.plan_once()
    acme.suspend()
    stack.run()
    assert stack.state("globex/one")["status"] == "completed"
    for name in ("acme/one", "acme/two"):
        its = stack.state(name)
        assert (its["status"], its["pause_reason"]) == ("paused", "forbidden")
        assert "This installation has been suspended; the owner" in its["last_error"]
    acme.suspended_at = None
    go_on(stack)
    assert {stack.state(name)["status"] for name in ("acme/one", "acme/two")} == {"completed"}
    stack.assert_equals_github()


def test_a_repository_that_an_installation_loses_waits_and_goes_on_when_it_is_given_back(
    stack: Stack, acme: Installation
) -> None:
    for name in ("acme/one", "acme/two"):
        stack.add(name, chunk_size=5)
    stack.plan_once()
    stack.plan_once()
    acme.selected = {"acme/two"}
    stack.run(between=lambda: pass_minutes(stack, 1))
    lost = stack.state("acme/one")
    assert (stack.state("acme/two")["status"], lost["status"], lost["pause_reason"]) == (
        "completed",
        "paused",
        "repository_unavailable",
    )
    assert "the GitHub App's installation on acme; add the repository to the installation" in lost["last_error"]
    acme.selected = None
    go_on(stack)
    assert stack.state("acme/one")["status"] == "completed"
    stack.assert_equals_github()


def test_an_installation_that_is_removed_and_made_again_has_another_identity(
    stack: Stack, app: App, acme: Installation
) -> None:
    stack.add("acme/one", chunk_size=5)
    stack.plan_once()
    app.installations.remove(acme)
    stack.run()
    assert stack.state()["status"] == "paused"
    app.installations.append(Installation("acme", 44))
    pass_minutes(stack, 2)
    go_on(stack)
    stack.assert_equals_github()
    assert stack.state()["status"] == "completed"
    assert "installation:44" in {row["identity"] for row in stack.db.rows("SELECT identity FROM github_budget")}


def test_an_owner_that_is_renamed_keeps_its_installation(
    stack: Stack, simulator: Simulator, acme: Installation
) -> None:
    stack.add("acme/one", chunk_size=5)
    stack.plan_once()
    acme.login = "apex"
    simulator.owners.rename("acme", "apex")
    pass_minutes(stack, 11)
    stack.run()
    assert stack.state("apex/one")["status"] == "completed"
    stack.assert_equals_github()


def test_a_missing_permission_is_named(stack: Stack, acme: Installation) -> None:
    del acme.permissions["pull_requests"]
    with pytest.raises(
        RepositoryUnavailable, match=r"Resource not accessible by integration.*give the GitHub App the permission"
    ):
        stack.add("acme/one")
    del acme.permissions["contents"]
    acme.permissions["pull_requests"] = "read"
    pass_minutes(stack, 11)
    stack.add("acme/one")
    listed = stack.db.rows("SELECT lacks FROM github_installations WHERE account = 'acme'")
    assert listed == [{"lacks": ["contents"]}]


@pytest.mark.parametrize(
    ("is_suspended", "reason"), [(False, "installed nowhere"), (True, "every installation is suspended")]
)
def test_an_app_that_can_read_nothing_says_so(db: Database, is_suspended: bool, reason: str) -> None:
    app = KEYS.app(*([Installation("acme", 11)] if is_suspended else []))
    for each in app.installations:
        each.suspend()
    with Simulator(generate(5, NAMES), speed=5000, app=app) as simulator:
        stack = Stack(db, simulator, secret=KEYS.secret)
        with pytest.raises(BadCredentials, match=reason):
            stack.add("elsewhere/public")


def test_a_limit_of_one_installation_holds_nobody_else_back(
    stack: Stack, simulator: Simulator, acme: Installation, globex: Installation
) -> None:
    for name in ("acme/one", "acme/two", "globex/one"):
        stack.add(name, chunk_size=5)
    stack.run()
    for name in ("acme/one", "acme/two", "globex/one"):
        stack.repository(name).open_pull_requests(3)
    # Another tool takes the points of acme.
    stack.db.execute(
        "UPDATE github_budget SET remaining = 0, reset_at = now() + interval '20 minutes' WHERE identity = 'installation:11'"
    )
    names.accept(stack.db, Wanted("globex", "two", None, {}), "a test", 0)
    names.accept(stack.db, Wanted("acme", "three", None, {}), "a test", 0)
    simulator.create(*generate(8, {"globex/two": 3, "acme/three": 3}))
    asked = len(simulator.limits_of(acme).history)
    # Checks for changes, listings and chunks of globex go on.
    stack.heartbeat()
    while (due := stack.queues.next_due()) and due[1].due < stack.queues.now + 300:
        stack.deliver(*due)
    assert len(simulator.limits_of(acme).history) == asked
    assert stack.state("globex/one")["current_prs"] == 33
    assert stack.state("globex/two")["status"] == "completed"
    pass_minutes(stack, 21)
    stack.heartbeat()
    stack.run()
    stack.assert_equals_github()
    assert {row["status"] for row in stack.db.rows("SELECT status FROM progressive_backfill_state")} == {"completed"}


def test_a_heartbeat_plans_on_where_another_installation_reads(stack: Stack) -> None:
    for hours, name in ((3, "acme/one"), (2, "acme/two"), (1, "globex/one")):
        stack.add(name)
        stack.db.execute(
            "UPDATE progressive_backfill_state SET planned_at = now() - make_interval(hours => :hours) WHERE planned_at IS NULL",
            hours=hours,
        )
    stack.db.execute(
        "UPDATE github_budget SET remaining = 0, reset_at = now() + interval '20 minutes' WHERE identity = 'installation:11'"
    )
    planned = {each["repository"]: each for each in stack.heartbeat()["backfills"]}
    # One of acme tells that its points are spent, and the other one is not even tried.
    assert list(planned) == ["acme/one", "globex/one"]
    assert planned["acme/one"]["deferred_seconds"] > 600 and planned["globex/one"]["pages"] == 1


def test_a_key_that_is_rotated_in_mid_run_is_read_again(db: Database, simulator: Simulator, app: App) -> None:
    secret = dict(KEYS.secret)
    stack = Stack(db, simulator, secret=secret)
    stack.github._credentials._read_secret = lambda _: dict(secret)  # type: ignore[attr-defined]
    stack.add("acme/one", chunk_size=5)
    stack.plan_once()
    new = AppKeys.generate()
    app.public_key, secret["private_key"] = new.public, new.private
    pass_minutes(stack, 61)
    stack.heartbeat()
    stack.run()
    assert simulator.served["refused_jwts"] >= 1
    assert stack.state()["status"] == "completed" and stack.state()["error_count"] == 0


def test_status_page_and_forecast_know_whose_budget_it_is(stack: Stack, globex: Installation) -> None:
    for name in ("acme/one", "globex/one"):
        stack.add(name, chunk_size=5)
    stack.plan_once()
    stack.plan_once()
    stack.db.execute(
        "UPDATE github_budget SET remaining = 500, reset_at = now() + interval '50 minutes' WHERE identity = 'installation:22'"
    )
    status = stack.console.act({"action": "status"})
    left = {each["account"]: (each["identity"], each["remaining"]) for each in status["budgets"]}
    assert (
        left["globex"] == ("installation:22", 500) and left["acme"][0] == "installation:11" and left["acme"][1] > 4900
    )
    foreseen = {
        each["repository"]: each for each in stack.forecaster.forecast(PlanEvent(dry_run=True)).as_json()["backfills"]
    }
    assert [foreseen[name]["identity"] for name in ("acme/one", "globex/one")] == ["installation:11", "installation:22"]
    # Two identities do not wait for each other.
    assert foreseen["acme/one"]["seconds"] < 600 < 3000 <= foreseen["globex/one"]["seconds"]
    shown = points_left(budgets(stack.db))
    assert shown is not None and (shown.limit, shown.but) == (10_000, " of 2 identities")
    globex.suspend()
    del globex.permissions["contents"]
    checks = {each["name"]: each for each in stack.console.act({"action": "doctor"})["checks"]}
    assert checks["GitHub App"]["result"] == "warned" and "suspended by globex" in checks["GitHub App"]["found"]
