"""The tools: the purpose of each, its call on one repository, its restart after a kill, and the rows that it read."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

KINDS = ("pull_requests", "reviews", "issue_comments", "review_comments", "commits", "files")
_START = "2000-01-01T00:00:00Z"


class Tool:
    """``package`` with its version. ``lacks`` says which of KINDS it does not read, as it is used here."""

    package = ""
    purpose = ""
    lacks: tuple[str, ...] = ()

    def __init__(self, bin_folder: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.bin, self.folder, self.environment = bin_folder, folder, environment

    def command(self, repository: str, *, resumes: bool) -> list[str]:
        """The command line; ``resumes`` after a kill, as its documentation says."""
        raise NotImplementedError

    def read(self) -> Counter[str]:
        """Distinct rows by kind, of all runs in this folder."""
        raise NotImplementedError

    def _json(self, name: str, content: object) -> str:
        path = self.folder / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return str(path)

    def _messages(self) -> list[dict[str, Any]]:
        """The JSON lines of its standard output; a kill may have cut the last one."""
        found = []
        for path in sorted(self.folder.glob("out.*")):
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found


class TapGithub(Tool):
    """https://github.com/MeltanoLabs/tap-github"""

    package = "meltanolabs-tap-github==1.30.1"
    purpose = "Singer tap: GitHub into any warehouse"
    lacks = ("files",)
    _streams: ClassVar = {
        "pull_requests": "pull_requests", "reviews": "reviews", "issue_comments": "issue_comments",
        "review_comments": "review_comments", "pull_request_commits": "commits",
    }  # fmt: skip

    def command(self, repository: str, *, resumes: bool) -> list[str]:
        config = {"auth_token": "ghp_rival", "repositories": [repository], "start_date": _START}
        call = [str(self.bin / "tap-github"), "--config", self._json("config.json", config)]
        catalog = json.loads(
            subprocess.run([*call, "--discover"], env=self.environment, capture_output=True, check=True).stdout
        )
        for stream in catalog["streams"]:
            for each in stream["metadata"]:
                if each["breadcrumb"] == []:
                    each["metadata"]["selected"] = stream["tap_stream_id"] in {*self._streams, "repositories"}
        call += ["--catalog", self._json("catalog.json", catalog)]
        states = [each["value"] for each in self._messages() if each["type"] == "STATE"]
        return [*call, "--state", self._json("state.json", states[-1])] if resumes and states else call

    def read(self) -> Counter[str]:
        found: set[tuple[str, str]] = set()
        for each in self._messages():
            kind = self._streams.get(each.get("stream", "")) if each["type"] == "RECORD" else None
            if kind:
                row = each["record"]
                found.add((kind, f"{row.get('pull_number', '')}:{row.get('sha') or row['id']}"))
        return Counter(kind for kind, _ in found)


class AirbyteSource(Tool):
    """https://docs.airbyte.com/integrations/sources/github; its GraphQL streams (reviews) ask for fields that the simulator lacks."""

    package = "airbyte-source-github==2.7.1"
    purpose = "Airbyte connector: GitHub into any warehouse"
    lacks = ("reviews", "files")
    _streams: ClassVar = {
        "pull_requests": "pull_requests", "comments": "issue_comments", "review_comments": "review_comments",
        "pull_request_commits": "commits",
    }  # fmt: skip

    def command(self, repository: str, *, resumes: bool) -> list[str]:
        token = {"option_title": "PAT Credentials", "personal_access_token": "ghp_rival"}
        config = {"credentials": token, "repositories": [repository], "start_date": _START}
        call, path = str(self.bin / "source-github"), self._json("config.json", config)
        done = subprocess.run(
            [call, "discover", "--config", path], env=self.environment, capture_output=True, check=True
        )
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
        catalog = next(each["catalog"] for each in messages if each["type"] == "CATALOG")
        chosen = [
            {
                "stream": stream,
                "sync_mode": "incremental" if "incremental" in stream["supported_sync_modes"] else "full_refresh",
                "destination_sync_mode": "append",
            }
            for stream in catalog["streams"]
            if stream["name"] in self._streams
        ]
        command = [call, "read", "--config", path, "--catalog", self._json("catalog.json", {"streams": chosen})]
        states = {
            json.dumps(each["state"]["stream"]["stream_descriptor"]): each["state"]
            for each in self._messages()
            if each["type"] == "STATE"
        }
        return [*command, "--state", self._json("state.json", list(states.values()))] if resumes and states else command

    def read(self) -> Counter[str]:
        found: set[tuple[str, str]] = set()
        for each in self._messages():
            if each["type"] == "RECORD" and each["record"]["stream"] in self._streams:
                row = each["record"]["data"]
                key = f"{row.get('pull_number', '')}:{row.get('sha') or row['id']}"
                found.add((self._streams[each["record"]["stream"]], key))
        return Counter(kind for kind, _ in found)


class Perceval(Tool):
    """https://github.com/chaoss/grimoirelab-perceval, category pull_request; it has nothing to resume with."""

    package = "perceval==1.6.1"
    purpose = "GrimoireLab: fetch for software analytics"
    lacks = ("issue_comments", "files")

    def command(self, repository: str, *, resumes: bool) -> list[str]:
        owner, name = repository.split("/")
        call = [str(self.bin / "perceval"), "github", owner, name, "--category", "pull_request", "-t", "ghp_rival"]
        return [*call, "--json-line"]

    def read(self) -> Counter[str]:
        found: set[tuple[str, str]] = set()
        for each in self._messages():
            data = each["data"]
            found.add(("pull_requests", str(data["number"])))
            found |= {("reviews", str(row["id"])) for row in data["reviews_data"]}
            found |= {("review_comments", str(row["id"])) for row in data["review_comments_data"]}
            found |= {("commits", f"{data['number']}:{oid}") for oid in data["commits_data"]}
        return Counter(kind for kind, _ in found)


class GithubBackup(Tool):
    """https://github.com/josegonzalez/python-github-backup: a file of JSON for each pull request."""

    package = "github-backup==0.65.1"
    purpose = "a copy of an account as files"
    lacks = ("files",)
    _parts: ClassVar = {
        "review_data": "reviews", "comment_regular_data": "issue_comments", "comment_data": "review_comments",
        "commit_data": "commits",
    }  # fmt: skip

    def command(self, repository: str, *, resumes: bool) -> list[str]:
        owner, name = repository.split("/")
        wanted = ["--pulls", "--pull-details", "--pull-comments", "--pull-reviews", "--pull-commits"]
        call = [
            str(self.bin / "github-backup"),
            "--token",
            "ghp_rival",
            "--output-directory",
            str(self.folder / "kept"),
        ]
        return [*call, "--incremental", "--repository", name, *wanted, owner]

    def read(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for path in (self.folder / "kept").rglob("pulls/*.json"):
            data = json.loads(path.read_text(encoding="utf-8"))
            found["pull_requests"] += 1
            found.update({kind: len(data.get(part, ())) for part, kind in self._parts.items()})
        return found


class GithubToSqlite(Tool):
    """https://github.com/dogsheep/github-to-sqlite; comments need the issues, of which pull requests are a part."""

    package = "github-to-sqlite==2.9.1"
    purpose = "GitHub in an SQLite file"
    lacks = ("reviews", "review_comments", "commits", "files")

    def command(self, repository: str, *, resumes: bool) -> list[str]:
        call = f"{self.bin / 'github-to-sqlite'} %s {self.folder / 'kept.db'} {repository}"
        steps = [call % step for step in ("pull-requests", "issues", "issue-comments")]
        return ["sh", "-c", " && ".join(steps)]

    def read(self) -> Counter[str]:
        with closing(sqlite3.connect(self.folder / "kept.db")) as db:
            names = {"pull_requests": "pull_requests", "issue_comments": "issue_comments"}
            there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            return Counter(
                {
                    kind: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                    for kind, table in names.items()
                    if table in there
                }
            )


TOOLS = (TapGithub, AirbyteSource, Perceval, GithubBackup, GithubToSqlite)
