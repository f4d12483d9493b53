"""Every link of every page leads to a file and a heading that exist, and no page is out of reach."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import ROOT, anchors, files, pages, without_code

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)")
_ELSEWHERE = ("https://", "http://", "mailto:")
# Pages that code, comments and other pages name without a link.
_NAMED = re.compile(r"(?<![\w/.-])docs/(?:adr/)?[\w-]+\.(?:md|png|svg|yaml)")


def links(page: Path) -> list[str]:
    return [unquote(link) for link in _LINK.findall(without_code(page.read_text(encoding="utf-8")))]


def wrong(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for link in links(page):
        if link.startswith(_ELSEWHERE):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert wrong(page) == []


def test_a_link_to_nowhere_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three\n\n[a](other.md) [b](#one-two-three) [c](#one) [d](page.md#four)\n```\n# four\n[e](x.md)\n```\n",
        encoding="utf-8",
    )
    assert wrong(page) == ["other.md", "#one", "page.md#four"]


def test_pages_that_are_named_in_code_exist() -> None:
    text = {".py", ".sql", ".md", ".yaml", ".yml", ".html", ".js", ".toml", ".sh", ".json"}
    missing = [
        (str(file.relative_to(ROOT)), name)
        for file in files()
        if file.suffix in text or file.name == "Makefile"
        for name in _NAMED.findall(file.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert missing == []


def test_paths_that_pages_name_exist() -> None:
    """In code, and as arguments of commands; but for those that a page tells to create. `00NN` is a number not yet taken."""
    path = re.compile(
        r"(?<![\w/.-])((?:tests|layers|functions|cli|local|events|benchmarks|migrations|requirements)/[\w/.-]*[\w/])"
    )
    missing = [
        (page.name, name)
        for page in pages()
        for code in re.findall(r"`([^`]+)`", page.read_text(encoding="utf-8"))
        for name in path.findall(code)
        if "00NN" not in name
        and not (ROOT / name).exists()
        and f"Create `{name}`" not in page.read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_page_of_the_documentation_is_reached_from_its_index() -> None:
    docs = ROOT / "docs"
    reached = {(docs / link.partition("#")[0]).resolve() for link in links(docs / "README.md") if "://" not in link}
    assert {page for page in docs.rglob("*.md") if page.name != "README.md"} - reached == set()
    assert (docs / "README.md") in {(ROOT / link).resolve() for link in links(ROOT / "README.md") if "://" not in link}


def test_modules_and_tests_that_the_documentation_names_exist() -> None:
    """Also without their folder: `outcomes.py`, `store/conclusions.py`, `planner/`."""
    names = [f"/{file.relative_to(ROOT)}" for file in files()]
    missing = [
        (page.name, name)
        for page in (ROOT / "docs").rglob("*.md")
        for name in re.findall(r"`([\w/-]+(?:\.(?:py|sql)|/))`", page.read_text(encoding="utf-8"))
        if not any(each.endswith(f"/{name}") or (name.endswith("/") and f"/{name}" in each) for each in names)
    ]
    assert missing == []


def test_statements_that_the_architecture_names_exist() -> None:
    """`_CLAIM` in some module of the store, `completed._SETTLE` in that one."""
    sources = {file.stem: file.read_text(encoding="utf-8") for file in files() if "/backfill/store/" in str(file)}
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:(\w+)\.)?(_[A-Z][A-Z_]+)`", page))
    assert len(named) > 15
    missing = [
        (module, name)
        for module, name in named
        if not any(
            re.search(rf"^{name} = ", source, re.MULTILINE) for stem, source in sources.items() if module in ("", stem)
        )
    ]
    assert missing == []
