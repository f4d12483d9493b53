"""GitHub's REST API, as far as the tools that read pull requests with it ask: a budget of its own, pages of 100 at most.

Fields are those of https://docs.github.com/rest that the data has; a request takes GitHub BASE_SECONDS, which is assumed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from local.simulator.data import Node, Repository
from local.simulator.limits import Limits
from local.simulator.price import Price

# Status, headers and JSON of a reply.
Reply = tuple[int, dict[str, str], Any]

_REPOSITORY = re.compile(r"/repos/([^/]+/[^/]+)(/.*)?")


class Rest:
    """Answers GET requests of one simulator: its ``repositories``, ``limits`` of 5,000 requests per window."""

    def __init__(self, named: Callable[[str], Repository | None], limits: Limits) -> None:
        self._named, self.limits = named, limits

    def answer(self, target: str, base: str) -> Reply:
        """The reply to a path with its query; ``base`` is the API's root, for links. Never raises."""
        parts = urlsplit(target)
        if parts.path == "/rate_limit":
            return 200, self.headers(), self._rate_limit()
        limited = self.limits.admit(Price())
        if limited is not None:
            message = (
                "You have exceeded a secondary rate limit."
                if limited.kind == "secondary"
                else "API rate limit exceeded"
            )
            return 403, {**self.headers(), "retry-after": str(limited.retry_after)}, {"message": message}
        try:
            found = self._found(parts.path, dict(parse_qsl(parts.query)), base)
        finally:
            self.limits.leave()
        if found is None:
            return 404, self.headers(), {"message": "Not Found"}
        if not isinstance(found, list):
            return 200, self.headers(), found
        return self._page(found, parts.path, dict(parse_qsl(parts.query)), base)

    def headers(self) -> dict[str, str]:
        """The budget of REST."""
        return {**self.limits.headers(), "x-ratelimit-resource": "core"}

    def _rate_limit(self) -> Node:
        headers = self.limits.headers()
        budget = {name: int(headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "used", "reset")}
        return {"resources": {"core": budget, "graphql": budget, "search": budget}, "rate": budget}

    def _page(self, items: list[Node], path: str, query: Mapping[str, str], base: str) -> Reply:
        size = max(1, min(100, int(query.get("per_page", 30))))
        number = int(query.get("page", 1))
        last = max(1, -(-len(items) // size))
        headers = self.headers()
        if number < last:
            pages = {"next": number + 1, "last": last}
            links = [
                f'<{base}{path}?{urlencode({**query, "page": page})}>; rel="{name}"' for name, page in pages.items()
            ]
            headers["link"] = ", ".join(links)
        return 200, headers, items[(number - 1) * size : number * size]

    def _found(self, path: str, query: Mapping[str, str], base: str) -> Node | list[Node] | None:
        if path == "/user" or path.startswith("/users/"):
            login = "viewer" if path == "/user" else path.split("/")[2]
            return [] if path.endswith("/orgs") else {"login": login, "id": 1, "type": "User", "name": login}
        match = _REPOSITORY.fullmatch(path)
        repository = self._named(match[1]) if match else None
        if match is None or repository is None:
            return None
        view = _View(repository, f"{base}/repos/{repository.full_name}")
        steps = (match[2] or "").strip("/").split("/")
        if steps == [""]:
            return view.repository()
        whole = {"pulls": view.pull, "issues": view.issue}
        lists = {"issues/comments": view.issue_comment, "pulls/comments": view.review_comment}
        if "/".join(steps) in lists:
            children = view.children("comments" if steps[0] == "issues" else "review_comments")
            return _sorted((lists["/".join(steps)](each) for each in children), query)
        if len(steps) == 1 and steps[0] in whole:
            return _sorted((whole[steps[0]](each) for each in repository.pull_requests.values()), query)
        if len(steps) < 2 or not steps[1].isdigit() or int(steps[1]) not in repository.pull_requests:
            return [] if steps[-1] == "reactions" else None
        node = repository.pull_requests[int(steps[1])]
        if len(steps) == 2:
            return view.pull(node, detail=True) if steps[0] == "pulls" else view.issue(node)
        return view.below(node, steps[0], steps[2])


def _sorted(items: Iterable[Node], query: Mapping[str, str]) -> list[Node]:
    """By ``sort``, ``direction`` and ``since``; all states, whatever is asked but open or closed."""
    key = "updated_at" if query.get("sort") == "updated" else "created_at"
    wanted = [each for each in items if query.get("since", "") <= str(each["updated_at"])]
    if query.get("state") in ("open", "closed"):
        wanted = [each for each in wanted if each.get("state") == query["state"]]
    return sorted(wanted, key=lambda each: (each[key], each["id"]), reverse=query.get("direction", "desc") == "desc")


class _View:
    """The nodes of one repository as REST shows them."""

    def __init__(self, repository: Repository, url: str) -> None:
        self._repository, self._url = repository, url

    def repository(self) -> Node:
        node = self._repository.node
        owner = {"login": node["owner"]["login"], "id": 1, "node_id": node["owner"]["id"], "type": "Organization"}
        return {
            "id": node["databaseId"],
            "node_id": node["id"],
            "name": node["name"],
            "full_name": self._repository.full_name,
            "owner": owner,
            "organization": owner,
            "private": node["isPrivate"],
            "url": self._url,
            "html_url": node["url"],
            "default_branch": "main",
            "license": None,
            "fork": node["isFork"],
            "archived": node["isArchived"],
            **dict.fromkeys(("has_issues", "has_wiki", "has_pages", "has_projects", "has_downloads"), False),
            "created_at": node["createdAt"],
            "updated_at": node["createdAt"],
            "pushed_at": node["createdAt"],
        }

    def pull(self, node: Node, *, detail: bool = False) -> Node:
        head = {
            "ref": node["headRefName"],
            "sha": node["headRefOid"],
            "label": node["headRefName"],
            "user": None,
            "repo": None,
        }
        base = {**head, "ref": node["baseRefName"], "sha": node["baseRefOid"], "repo": self.repository()}
        row = {
            **self.issue(node),
            "url": f"{self._url}/pulls/{node['number']}",
            "draft": node["isDraft"],
            "merged_at": node["mergedAt"],
            "merge_commit_sha": _oid(node["mergeCommit"]),
            "head": head,
            "base": base,
            "requested_reviewers": [_user(each) for each in node["reviewRequests"] if each["__typename"] != "Team"],
            "requested_teams": [],
            "auto_merge": None,
            "_links": {"self": {"href": f"{self._url}/pulls/{node['number']}"}, "html": {"href": node["url"]}},
        }
        if detail:
            row |= {
                "merged": node["merged"],
                "merged_by": _user(node["mergedBy"]),
                "review_comments": sum(len(each["comments"]) for each in node["reviews"]),
                "commits": len(node["commits"]),
                "additions": node["additions"],
                "deletions": node["deletions"],
                "changed_files": node["changedFiles"],
            }
        return row

    def issue(self, node: Node) -> Node:
        number = node["number"]
        return {
            "id": int(node["fullDatabaseId"]),
            "node_id": node["id"],
            "number": number,
            "url": f"{self._url}/issues/{number}",
            "html_url": node["url"],
            "comments_url": f"{self._url}/issues/{number}/comments",
            "pull_request": {"url": f"{self._url}/pulls/{number}", "html_url": node["url"]},
            "state": "open" if node["state"] == "OPEN" else "closed",
            "locked": node["locked"],
            "active_lock_reason": None,
            "title": node["title"],
            "body": node["body"],
            "user": _user(node["author"]),
            "author_association": node["authorAssociation"],
            "created_at": node["createdAt"],
            "updated_at": node["updatedAt"],
            "closed_at": node["closedAt"],
            "assignee": None,
            "assignees": [_user(each) for each in node["assignees"]],
            "labels": [_label(each) for each in node["labels"]],
            "milestone": node["milestone"] and {"id": node["milestone"]["number"], "creator": None, **node["milestone"]},
            "comments": len(node["comments"]),
            "reactions": {"total_count": 0},
        }  # fmt: skip

    def children(self, kind: str) -> Iterable[Node]:
        """Comments of every pull request, each with its number and its review."""
        for node in self._repository.pull_requests.values():
            for each in node["comments"] if kind == "comments" else _review_comments(node):
                yield {**each, "number": node["number"]}

    def below(self, node: Node, parent: str, name: str) -> Node | list[Node] | None:
        """What hangs on one pull request."""
        numbered = {"number": node["number"]}
        if (parent, name) == ("issues", "comments"):
            return [self.issue_comment({**each, **numbered}) for each in node["comments"]]
        made: dict[str, Callable[[], Node | list[Node]]] = {
            "comments": lambda: [self.review_comment({**each, **numbered}) for each in _review_comments(node)],
            "reviews": lambda: [self.review({**each, **numbered}) for each in node["reviews"]],
            "commits": lambda: [self.commit(each) for each in node["commits"]],
            "files": lambda: [{"filename": each["path"], "status": each["changeType"].lower(), "additions": each["additions"], "deletions": each["deletions"], "sha": None} for each in node["files"]],
            "requested_reviewers": lambda: {"users": [_user(each) for each in node["reviewRequests"] if each["__typename"] != "Team"], "teams": []},
            "reactions": list,
        }  # fmt: skip
        return made[name]() if name in made else None

    def issue_comment(self, node: Node) -> Node:
        return {**self._said(node), "issue_url": f"{self._url}/issues/{node['number']}"}

    def review_comment(self, node: Node) -> Node:
        answered = node["replyTo"]
        return {
            **self._said(node),
            "pull_request_url": f"{self._url}/pulls/{node['number']}",
            "pull_request_review_id": node["review_id"],
            "path": node["path"],
            "position": node["position"],
            "line": node["line"],
            "original_line": node["originalLine"],
            "diff_hunk": node["diffHunk"],
            "commit_id": _oid(node["commit"]),
            "original_commit_id": _oid(node["originalCommit"]),
            "in_reply_to_id": answered and int(answered["fullDatabaseId"]),
        }

    def review(self, node: Node) -> Node:
        said = self._said(node)
        return {
            **said,
            "state": node["state"],
            "submitted_at": node["submittedAt"],
            "commit_id": _oid(node["commit"]),
            "pull_request_url": f"{self._url}/pulls/{node['number']}",
        }

    def commit(self, node: Node) -> Node:
        commit = node["commit"]
        name = (commit["author"] or {}).get("name")
        author = {"name": name, "email": None, "date": commit["authoredDate"]}
        return {
            "sha": commit["oid"],
            "node_id": node["id"],
            "url": f"{self._url}/commits/{commit['oid']}",
            "html_url": commit["oid"],
            "commit": {"author": author, "committer": {**author, "date": commit["committedDate"]}, "message": commit["messageHeadline"]},
            "author": _user((commit["author"] or {}).get("user")),
            "committer": None,
            "parents": [],
        }  # fmt: skip

    def _said(self, node: Node) -> Node:
        return {
            "id": int(node["fullDatabaseId"]),
            "node_id": node["id"],
            "body": node["body"],
            "user": _user(node["author"]),
            "author_association": node["authorAssociation"],
            "html_url": node["url"],
            "url": node["url"],
            "created_at": node["createdAt"],
            "updated_at": node["updatedAt"],
            "reactions": {"total_count": 0},
        }


def _review_comments(node: Node) -> Iterable[Node]:
    for review in node["reviews"]:
        for each in review["comments"]:
            yield {**each, "review_id": int(review["fullDatabaseId"])}


def _label(node: Node) -> Node:
    """GraphQL has no number for labels: any will do that is always the same."""
    number = zlib.crc32(str(node["id"]).encode())
    shown = {"id": number, "node_id": node["id"], "name": node["name"], "color": node["color"]}
    return {**shown, "description": None, "default": False}


def _oid(node: Any) -> str | None:
    return node["oid"] if node else None


def _user(node: Node | None) -> Node | None:
    if not node:
        return None
    return {
        "login": node.get("login") or node.get("slug"),
        "id": node.get("databaseId") or 0,
        "node_id": node["id"],
        "avatar_url": node.get("avatarUrl"),
        "url": node.get("url"),
        "html_url": node.get("url"),
        "type": node["__typename"],
        "site_admin": False,
    }
