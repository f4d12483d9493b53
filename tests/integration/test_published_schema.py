"""Every query that the product sends is valid in the schema that GitHub publishes, and the simulator speaks that schema.

The schema is an npm package, which npm fetches once into an ignored folder; a machine without npm skips, and says so.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    parse,
    validate,
)

from backfill.github import documents, organisations
from backfill.store.connection import Database
from local.in_process import Stack
from local.simulator import generate
from local.simulator.schema import SDL
from tests.integration.demanding import Demanding, comments, reviews

PACKAGE, VERSION = "@octokit/graphql-schema", "15.26.1"
INTEGRITY = "sha512-RFDC2MpRBd4AxSRvUeBIVeBU7ojN/SxDfALUd7iVYOSeEK3gZaqR2MGOysj4Zh2xj2RY5fQAUT+Oqq7hWTraMA=="
CACHE = Path(__file__).parents[2] / ".local" / "github-schema" / f"{VERSION}.graphql"
NAME = "octo/valid"
# Where the simulator knows less than GitHub does: enumerations are text to it.
ENUMERATIONS = {
    "CommentAuthorAssociation",
    "PatchStatus",
    "PullRequestReviewState",
    "DiffSide",
    "LockReason",
    "PullRequestReviewDecision",
}


def fetched() -> str:
    """The published schema, from npm when it is not at hand. Raises where npm fails or gives something else."""
    if CACHE.exists():
        return CACHE.read_text(encoding="utf-8")
    if shutil.which("npm") is None:
        pytest.skip(f"npm is not installed: queries were NOT held against GitHub's schema ({PACKAGE} {VERSION})")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "npm",
            "pack",
            f"{PACKAGE}@{VERSION}",
            "--ignore-scripts",
            "--loglevel",
            "error",
            "--pack-destination",
            folder,
        ]
        packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        if packed.returncode:
            raise RuntimeError(f"npm cannot fetch {PACKAGE} {VERSION}: {packed.stderr.strip()[-500:]}")
        (archive,) = Path(folder).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != INTEGRITY:
            raise RuntimeError(f"npm gave another {PACKAGE} {VERSION} than the one that this test knows")
        with tarfile.open(archive) as files:
            member = files.extractfile("package/schema.graphql")
            text = member.read().decode() if member else ""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not there: another run may look at the same time.
    whole = CACHE.with_suffix(f".{os.getpid()}")
    whole.write_text(text, encoding="utf-8")
    whole.replace(CACHE)
    return text


@pytest.fixture(scope="module")
def published() -> GraphQLSchema:
    return build_schema(fetched(), assume_valid=True, assume_valid_sdl=True)


@pytest.fixture
def stack(db: Database) -> Iterator[Stack]:
    with Demanding(generate(4, {NAME: 30}), speed=2000) as simulator:
        yield Stack(db, simulator)


def test_every_query_that_is_sent_is_valid_in_the_published_schema(stack: Stack, published: GraphQLSchema) -> None:
    sent: set[str] = set()
    stack.simulator.before = sent.add  # type: ignore[attr-defined]
    repository = stack.repository(NAME)
    first, second, third = sorted(repository.pull_requests)[:3]
    repository.change(first, comments=comments(repository, first, 250))
    repository.change(first, **reviews(repository, first, [150], 20))
    repository.change(second, **reviews(repository, second, [1] * 150, 1))
    person = next(each for node in repository.pull_requests.values() for each in node["reviewRequests"])
    repository.change(third, assignees=[person], closingIssuesReferences=[{"number": 7}], reviewRequests=[person])
    stack.add(NAME, timeline=True)
    stack.run()
    repository.change(third, title="Changed", updatedAt="2029-01-01T00:00:00Z")
    stack.heartbeat()
    stack.console.act({"action": "sync", "repository": NAME, "pr_numbers": [first]})
    stack.run()
    assert stack.state()["status"] == "completed"
    stack.github.repository(*NAME.split("/"))  # as a dry run of a repository that is not tracked
    stack.console.act({"action": "add", "organisation": "octo"})
    stack.heartbeat()
    stack.github.token_facts()  # as backfill doctor
    invalid = {text: [error.message for error in validate(published, parse(text))] for text in sent}
    assert {text: errors for text, errors in invalid.items() if errors} == {}
    # All of them: each operation and fragment that there is, and what follows below reviews and threads.
    texts = [
        value
        for value in (*vars(documents).values(), organisations.BY_LOGIN, organisations.BY_ID)
        if isinstance(value, str) and value.startswith("query ")
    ]
    assert {_operation(text) for text in sent} == {*map(_operation, texts), "FindRepositories", "PullRequestDetails"}
    everything = " ".join(sent)
    assert [name for name in documents.NODES if f"fragment {name}Node on " not in everything] == []
    # Spaces differ: documents with a timeline are written without them.
    below = everything.replace(" {", "{")
    assert "... on PullRequestReview{" in below and "... on PullRequestReviewThread{" in below


def _operation(text: str) -> str:
    (operation,) = [each for each in parse(text).definitions if isinstance(each, OperationDefinitionNode)]
    return operation.name.value if operation.name else ""


def test_the_simulator_speaks_the_published_schema(published: GraphQLSchema) -> None:
    differences = []
    for name, own in build_schema(SDL).type_map.items():
        theirs = published.type_map.get(name)
        if name.startswith("__") or not isinstance(own, GraphQLObjectType | GraphQLInterfaceType):
            continue
        assert isinstance(theirs, GraphQLObjectType | GraphQLInterfaceType), f"GitHub has no type {name}"
        for field_name, field in own.fields.items():
            known = theirs.fields.get(field_name)
            expected = "none" if known is None else str(known.type)
            for enumeration in ENUMERATIONS:
                expected = expected.replace(enumeration, "String")
            if str(field.type) != expected:
                differences.append(f"{name}.{field_name}: {field.type}, GitHub says {expected}")
            differences += [
                f"{name}.{field_name} takes no {argument}"
                for argument in field.args
                if known is None or argument not in known.args
            ]
    assert differences == []
