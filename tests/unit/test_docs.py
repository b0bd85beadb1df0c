"""The documentation says what the code does: generated parts, links, and names that must occur."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import pytest
from pydantic import BaseModel

from mlopsc.cli import cli
from mlopsc.schema.target import Compile, Emulator, Hardware, Limits, Run, Target, Toolchain
from mlopsc.targets import target_names

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
VERBS = cli.list_commands(click.Context(cli))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """The names that links to headings of ``page`` use (GitHub's rule)."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def local_links(page: Path) -> Iterator[tuple[Path, str]]:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield (page.parent / path if path else page), anchor


def test_generated_parts_are_up_to_date() -> None:
    assert generator().stale() == [], "run: python docs/generate.py"


def test_check_names_a_page_whose_generated_part_was_edited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = generator()
    for path, text in module.expected().items():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert module.stale() == []
    page = tmp_path / "docs" / "errors.md"
    page.write_text(page.read_text(encoding="utf-8").replace("| 14 |", "| 41 |"), encoding="utf-8")
    assert module.stale() == ["docs/errors.md"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for path, anchor in local_links(page):
        assert path.exists(), f"{name_of(page)} links to {path}"
        assert not anchor or anchor in anchors(path), f"{name_of(page)} links to #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_holds_a_path_of_a_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(work|tmp|home|root|Users)/", text)


def test_every_verb_is_documented() -> None:
    help_page = (DOCS / "cli.md").read_text(encoding="utf-8")
    tour = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"## mlopsc {verb}\n" in help_page
        assert f"mlopsc {verb} " in tour


def test_every_target_is_documented() -> None:
    for page in (DOCS / "targets.md", ROOT / "README.md"):
        text = page.read_text(encoding="utf-8")
        assert [name for name in target_names() if f"| `{name}` |" not in text] == []


def test_every_error_is_documented_with_an_exit_code_of_its_own() -> None:
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    kinds = generator().error_classes()
    for kind in kinds:
        assert f"| {kind.exit_code} | `{kind.__name__}` |" in text
    codes = [kind.exit_code for kind in kinds]
    assert len(codes) == len({*codes, 0, 1, 2, 130}) - 4


@pytest.mark.parametrize("table", [Target, Compile, Hardware, Limits, Toolchain, Run, Emulator])
def test_every_field_of_a_target_file_is_documented(table: type[BaseModel]) -> None:
    text = (DOCS / "targets.md").read_text(encoding="utf-8")
    missing = [f for f in table.model_fields if f"`{f}`" not in text and f"[{f}]" not in text]
    missing = [f for f in missing if f"[run.{f}]" not in text]
    assert missing == []


def test_every_decision_is_in_the_index() -> None:
    index = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    assert records and [name for name in records if f"({name})" not in index] == []
    assert [name[:4] for name in records] == [f"{n:04}" for n in range(1, len(records) + 1)]
