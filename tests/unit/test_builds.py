"""The same sources are built once; other ones, or other settings, are built again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local import builds


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small copy of what the template is built from."""
    folder = tmp_path / "source"
    for name in ("functions/migrator", "layers/shared", "migrations/versions", "requirements"):
        (folder / name).mkdir(parents=True)
    for name in ("template.yaml", "monitoring.yaml"):
        (folder / name).write_text("Resources: {}", encoding="utf-8")
    (folder / "functions/migrator/app.py").write_text("handler = 1", encoding="utf-8")
    (folder / "functions/migrator/migrations").symlink_to("../../migrations")
    (folder / "layers/shared/Makefile").write_text("build:", encoding="utf-8")
    (folder / "migrations/versions/0001_a.sql").write_text("SELECT 1", encoding="utf-8")
    (folder / "requirements/migrator.txt").write_text("alembic", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "file",
    [
        "template.yaml",
        "monitoring.yaml",
        "functions/migrator/app.py",
        "layers/shared/Makefile",
        "migrations/versions/0001_a.sql",
        "requirements/migrator.txt",
        "functions/new.py",
    ],
)
def test_every_source_counts(source: Path, file: str) -> None:
    before = builds.content_of(source, {})
    (source / file).write_text("changed", encoding="utf-8")
    assert builds.content_of(source, {}) != before


def test_names_links_modes_and_settings_count(source: Path) -> None:
    seen = {builds.content_of(source, {}), builds.content_of(source, {"LAYER_PYTHON": "python3.13"})}
    (source / "functions/migrator/app.py").chmod(0o700)
    seen.add(builds.content_of(source, {}))
    (source / "functions/migrator/app.py").rename(source / "functions/migrator/main.py")
    seen.add(builds.content_of(source, {}))
    (source / "functions/migrator/migrations").unlink()
    (source / "functions/migrator/migrations").symlink_to("../../requirements")
    seen.add(builds.content_of(source, {}))
    assert len(seen) == 5


def test_bytecode_and_the_place_do_not_count(source: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(source, tmp_path / "elsewhere", symlinks=True)
    (elsewhere / "functions/migrator/__pycache__").mkdir()
    (elsewhere / "functions/migrator/__pycache__/app.pyc").write_bytes(b"x")
    assert builds.content_of(elsewhere, {}) == builds.content_of(source, {})


def writer(made: list[Path]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.05)
        (folder / "template.yaml").write_text("built", encoding="utf-8")

    return build


def test_processes_that_want_the_same_build_at_once_build_it_once(tmp_path: Path) -> None:
    made: list[Path] = []
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda n: builds.built(
                    tmp_path / "cache", builds.Build(tmp_path, "a", tmp_path / str(n)), writer(made)
                ),
                range(4),
            )
        )
    assert len(made) == 1
    assert [(tmp_path / str(n) / "template.yaml").read_text(encoding="utf-8") for n in range(4)] == ["built"] * 4


def test_a_copy_that_is_changed_changes_no_other(tmp_path: Path) -> None:
    made: list[Path] = []
    builds.built(tmp_path / "cache", builds.Build(tmp_path, "a", tmp_path / "one"), writer(made))
    (tmp_path / "one/template.yaml").write_text("changed", encoding="utf-8")
    builds.built(tmp_path / "cache", builds.Build(tmp_path, "a", tmp_path / "two"), writer(made))
    assert (tmp_path / "two/template.yaml").read_text(encoding="utf-8") == "built"


def test_functions_that_are_shipped_from_the_sources_are_those_of_each_folder(tmp_path: Path) -> None:
    """The sources of the first build may be gone."""

    def build(folder: Path) -> None:
        place = os.path.relpath(tmp_path / "one/functions/planner", folder)
        text = f"CodeUri: {place}\nContentUri: SharedLayer\n"
        (folder / "template.yaml").write_text(text, encoding="utf-8")

    for name in ("one", "two"):
        (tmp_path / name / "functions/planner").mkdir(parents=True)
        builds.built(tmp_path / "cache", builds.Build(tmp_path / name, "a", tmp_path / f"{name}-built"), build)
        text = (tmp_path / f"{name}-built/template.yaml").read_text(encoding="utf-8")
        code, layer = (line.split()[1] for line in text.splitlines())
        assert (tmp_path / f"{name}-built" / code).resolve() == (tmp_path / name / "functions/planner").resolve()
        assert layer == "SharedLayer"


def test_a_build_that_fails_is_built_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x", encoding="utf-8")
        raise RuntimeError("no network")

    with pytest.raises(RuntimeError):
        builds.built(tmp_path / "cache", builds.Build(tmp_path, "a", tmp_path / "one"), fail)
    made: list[Path] = []
    builds.built(tmp_path / "cache", builds.Build(tmp_path, "a", tmp_path / "one"), writer(made))
    assert [each.name for each in (tmp_path / "one").iterdir()] == ["template.yaml"]
    assert len(made) == 1 and not (tmp_path / "cache" / builds.UNFINISHED).exists()


def test_the_builds_that_were_used_last_are_kept(tmp_path: Path) -> None:
    made: list[Path] = []
    for content in [*map(str, range(builds.KEPT)), "0", "new"]:
        builds.built(tmp_path / "cache", builds.Build(tmp_path, content, tmp_path / "copy"), writer(made))
    assert {each.name for each in (tmp_path / "cache").iterdir() if each.is_dir()} == {
        "0",
        "new",
        *map(str, range(2, builds.KEPT)),
    }
