"""One word per concept: pages, docstrings, comments, messages and test names keep to the terms of docs/glossary.md."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, files

# Words that the glossary replaces by a term, with their inflections.
WORDS = {
    "sync job": r"sync jobs?",
    "scan": r"scan(s|ned|ning)?",
    "examine": r"examin(e|es|ed|ing|ation|ations)",
    "look after": r"look(s|ed|ing)? after",
    "stuck": r"stuck(?!-threshold|-chunks\.js)",
    "lost worker": r"lost workers?",
    "put off": r"put(s|ting)? off",
    "halve": r"(halv(e|ed|ing|ings)|halves (it|them|the|its|a))",
    "bury": r"(bury|buries|buried|burying)",
    "by hand": r"by hand",
}
# Shapes that plain English does without.
SHAPES = {
    "is none": r"(?<![Tt]here )(is|are|was|were) none",
    "is no X": r"(?<![Tt]here )(is|are) no (?!longer\b|more\b|less\b)[a-z]+",
    "shall": r"shall",
    "whence": r"(whence|thence|hence|thereof|wherein)",
    "for ever": r"for ever",
    "whoever": r"(whoever|whomever|whosoever)",
    "that is that": r"that is that",
    "nothing of": r"does nothing of",
    "a test named by a clause": r"^test (what|whose|who|whoever)",
}
# What may stand all the same, with the reason.
EXCEPTIONS: dict[str, str] = {
    r"(sequential|index|bitmap|seq|table)[ -]scans?": "Postgres' own word for a way to read a table",
    r"Recover stuck chunks": "the heading of the script's own documentation, which migrating.md follows",
}
# Files whose words are not ours to change, with the reason.
FOREIGN = {
    "LICENSE": "the licence's own text",
    "migrations/versions": "a released migration is never edited; docs/data.md shows the comments in force",
    "local/simulator/replies": "GitHub's own replies",
    "tests/docs/test_vocabulary.py": "this list",
}
# Still to be rewritten; each line goes when its text is clean.
TO_DO = ("layers",)
TEXT = {".py", ".md", ".yaml", ".yml", ".html", ".js", ".css", ".toml", ".sh", ".sql", ".json", ".in"}
_STRINGS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
_PATTERNS = {
    name: re.compile(rf"(?<![\w-]){pattern}(?![\w-])", re.IGNORECASE if name in WORDS else 0)
    for name, pattern in {**WORDS, **SHAPES}.items()
}
_EXCEPTIONS = {pattern: re.compile(pattern, re.IGNORECASE) for pattern in EXCEPTIONS}


def _blank(found: re.Match[str]) -> str:
    """As many lines, and nothing in them."""
    return "\n" * found[0].count("\n")


def _page(text: str) -> str:
    """The prose of a page: no code, which shows names as they are."""
    return re.sub(r"`[^`\n]+`", "", re.sub(r"^(```|~~~).*?^\1", _blank, text, flags=re.MULTILINE | re.DOTALL))


def _python(text: str) -> Iterator[tuple[int, str]]:
    """Comments, strings of more than one word and the names of tests, each with its line."""
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _STRINGS and " " in token.string:
            for number, line in enumerate(token.string.splitlines()):
                yield token.start[0] + number, re.sub(r"`[^`]+`", "", line)
        elif token.type == tokenize.NAME and before == "def" and token.string.startswith("test_"):
            yield token.start[0], token.string.replace("_", " ")
        before = token.string


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that a person reads as prose."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        yield from _python(text)
    else:
        yield from enumerate((_page(text) if file.suffix == ".md" else text).splitlines(), 1)


def wrong(file: Path) -> list[str]:
    """What a file says in another word than the glossary's."""
    found = []
    for number, line in lines(file):
        for pattern in _EXCEPTIONS.values():
            line = pattern.sub("", line)
        found += [f"{number}: {match[0]} ({name})" for name, one in _PATTERNS.items() for match in one.finditer(line)]
    return found


def ours() -> list[Path]:
    named = (str(file.relative_to(ROOT)) for file in files() if file.suffix in TEXT or file.name == "Makefile")
    return [ROOT / name for name in named if not name.startswith(tuple(FOREIGN))]


def test_words_are_those_of_the_glossary() -> None:
    found = {str(file.relative_to(ROOT)): said for file in ours() if (said := wrong(file))}
    assert {name: said for name, said in found.items() if not name.startswith(TO_DO)} == {}


def test_the_glossary_says_what_each_word_is_replaced_by() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]*)\|$", (ROOT / "docs/glossary.md").read_text("utf-8"), re.M)
    assert {word for _, instead in rows for word in re.findall(r"`([^`]+)`", instead)} == WORDS.keys()


def test_every_exception_is_in_use() -> None:
    texts = [line for file in ours() for _, line in lines(file)]
    assert [name for name, one in _EXCEPTIONS.items() if not any(map(one.search, texts))] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("It scans the table.", "scans"),
        ("The scan ended.", "scan"),
        ("a chunk that is put off", "put off"),
        ("It is none.", "is none"),
        ("That is no limit.", "is no limit"),
        ("There is no limit, and it is no longer.", None),
        ("`scan` and scan_until", None),
        ("a sequential scan", None),
        ("--stuck-threshold 60", None),
    ],
)
def test_a_word_is_found_in_prose_alone(tmp_path: Path, line: str, said: str | None) -> None:
    expected = [] if said is None else [said]
    for name, text in [("page.md", line), ("code.py", f"# {line}\n"), ("other.py", f'"""{line}"""\n')]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert [each.split(": ")[1].split(" (")[0] for each in wrong(tmp_path / name)] == expected
