"""What a viewer typed, read back before it is done: which repositories to add, which pull requests to sync."""

from __future__ import annotations

import re
from dataclasses import dataclass

from backfill.repository_names import NotAName, repository_name
from backfill.widget.actions import Action
from backfill.widget.contract import View
from backfill.widget.words import counted, listed

# As the schema of the console's events says.
MOST_NAMES = 100
MOST_NUMBERS = 500
LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Question:
    """What to do, and the button that does it; or what is ``wrong`` with the text that was typed."""

    heading: str = ""
    words: str = ""
    action: Action | None = None
    wrong: str = ""


def question(view: View) -> Question | None:
    """What the viewer is asked; None if the viewer typed nothing."""
    if not view.asked:
        return None
    parts = [each for each in re.split(r"[\s,;]+", view.typed) if each]
    if view.asked == "add":
        return _add(parts)
    return _sync(view.show, parts) if view.show else None


def _add(parts: list[str]) -> Question:
    if not parts:
        return Question(wrong="Type OWNER/NAME, as in pytorch/pytorch, or an address of GitHub.")
    try:
        names = list({name.lower(): name for name in map(repository_name, parts)}.values())
    except NotAName as error:
        return Question(wrong=f"{error}.")
    if len(names) > MOST_NAMES:
        return Question(wrong=f"{len(names)} names are more than {MOST_NAMES}, the most at once.")
    what = names[0] if len(names) == 1 else counted(len(names), "repository", "repositories")
    return Question(
        heading=f"Add {what}?",
        words=f"{listed(names, MOST_NAMES)}: all pull requests are read as fast as the budget allows. "
        "A repository that is tracked already stays as it is.",
        action=Action(f"Add {what}", "", {"action": "add", "repositories": names}),
    )


def _sync(name: str, parts: list[str]) -> Question:
    digits = [each.removeprefix("#") for each in parts]
    if not digits or not all(re.fullmatch("[0-9]{1,10}", each) and 0 < int(each) <= LARGEST_NUMBER for each in digits):
        return Question(wrong="Type numbers of pull requests, as in 12, 15.")
    numbers = sorted({int(each) for each in digits})
    if len(numbers) > MOST_NUMBERS:
        return Question(wrong=f"{len(numbers)} numbers are more than {MOST_NUMBERS}, the most at once.")
    what = listed([f"#{number}" for number in numbers])
    return Question(
        heading=f"Sync {what} of {name}?",
        words="A worker reads them from GitHub again, also if they have not changed.",
        action=Action(f"Sync {what}", "", {"action": "sync", "repository": name, "pr_numbers": numbers}),
    )
