"""Outputs appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support import tree, unchanged

from mlopsc.errors import OutputError
from mlopsc.outputs import atomic_file, atomic_folder, check_free

Atomic = Callable[..., AbstractContextManager[Path]]
BOTH = pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])


def fill(path: Path, text: str = "new") -> None:
    """Write something to what ``atomic_file`` or ``atomic_folder`` yielded."""
    if path.is_dir():
        (path / "inside").write_text(text)
    else:
        path.write_text(text)


def content(path: Path) -> str:
    return (path / "inside" if path.is_dir() else path).read_text()


def make(atomic: Atomic, path: Path, text: str) -> None:
    """Make an output of the kind that ``atomic`` makes, without it."""
    if atomic is atomic_folder:
        path.mkdir()
        (path / "inside").write_text(text)
    else:
        path.write_text(text)


@BOTH
def test_output_appears_with_its_content_and_nothing_else(atomic: Atomic, tmp_path: Path) -> None:
    with atomic(tmp_path / "out") as work:
        fill(work)
        assert not (tmp_path / "out").exists()
    assert content(tmp_path / "out") == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@BOTH
def test_missing_parents_are_made(atomic: Atomic, tmp_path: Path) -> None:
    with atomic(tmp_path / "a" / "b" / "out") as work:
        fill(work)
    assert content(tmp_path / "a" / "b" / "out") == "new"


@BOTH
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_leaves_nothing(
    atomic: Atomic, error: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(error), atomic(tmp_path / "out") as work:
        fill(work)
        raise error
    assert tree(tmp_path) == {}


@BOTH
def test_exception_leaves_no_parents_that_were_made_for_the_output(
    atomic: Atomic, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="stop"), atomic(tmp_path / "a" / "b" / "out") as work:
        fill(work)
        raise ValueError("stop")
    assert tree(tmp_path) == {}


@BOTH
def test_exception_keeps_parents_that_were_there(atomic: Atomic, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="stop"), atomic(tmp_path / "a" / "out") as work:
        fill(work)
        raise ValueError("stop")
    assert tree(tmp_path) == {"a": "folder"}


def _kinds(path: Path) -> Iterator[Callable[[], object]]:
    yield lambda: path.write_text("old")
    yield path.mkdir
    yield lambda: path.symlink_to("nowhere")


@BOTH
@pytest.mark.parametrize("kind", [0, 1, 2], ids=["file", "folder", "dangling link"])
def test_existing_output_is_refused_before_any_work(
    atomic: Atomic, kind: int, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    list(_kinds(path))[kind]()
    with unchanged(tmp_path), pytest.raises(OutputError) as caught, atomic(path):
        pytest.fail("the block ran")
    assert str(path) in caught.value.message
    assert "--force" in caught.value.hint
    with pytest.raises(OutputError):
        check_free(path)


@BOTH
def test_output_that_appears_meanwhile_is_kept(atomic: Atomic, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(OutputError), atomic(path) as work:
        fill(work)
        make(atomic, path, "theirs")
    assert content(path) == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@BOTH
@pytest.mark.parametrize("name", ["out", "replaced", ".hidden", "with space", "ä"])
def test_force_replaces_whatever_its_name(atomic: Atomic, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    make(atomic, path, "old")
    with atomic(path, force=True) as work:
        fill(work)
        assert content(path) == "old"
    assert content(path) == "new"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@BOTH
def test_force_replaces_a_link_and_not_what_it_points_to(atomic: Atomic, tmp_path: Path) -> None:
    theirs, path = tmp_path / "theirs", tmp_path / "out"
    make(atomic, theirs, "theirs")
    path.symlink_to(theirs)
    with atomic(path, force=True) as work:
        fill(work)
    assert not path.is_symlink()
    assert content(path) == "new"
    assert content(theirs) == "theirs"


@BOTH
def test_exception_under_force_keeps_the_old_output(atomic: Atomic, tmp_path: Path) -> None:
    path = tmp_path / "out"
    make(atomic, path, "old")
    with (
        unchanged(tmp_path),
        pytest.raises(ValueError, match="stop"),
        atomic(path, force=True) as work,
    ):
        fill(work)
        raise ValueError("stop")


@BOTH
@pytest.mark.parametrize("moment", [0, 1], ids=["before the old is moved", "before the new is"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_failure_while_replacing_keeps_the_old_output(
    atomic: Atomic,
    moment: int,
    error: BaseException | type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "out"
    make(atomic, path, "old")
    calls = []
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == moment + 1:
            raise error
        return rename(self, target)

    with pytest.raises((KeyboardInterrupt, OutputError)), atomic(path, force=True) as work:
        fill(work)
        monkeypatch.setattr(Path, "rename", interrupted)
    assert len(calls) > moment, "the moment never came"
    assert content(path) == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_force_does_not_replace_a_folder_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "holiday pictures"
    path.mkdir()
    (path / "beach.jpg").write_text("sand")
    with unchanged(tmp_path), pytest.raises(OutputError), atomic_file(path, force=True) as work:
        fill(work)


@BOTH
def test_place_below_a_file_is_refused(atomic: Atomic, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    path = tmp_path / "file" / "out"
    with unchanged(tmp_path), pytest.raises(OutputError) as caught, atomic(path):
        pytest.fail("the block ran")
    assert str(path) in caught.value.message
    assert caught.value.hint


@BOTH
def test_name_that_is_too_long_is_refused(atomic: Atomic, tmp_path: Path) -> None:
    with unchanged(tmp_path), pytest.raises(OutputError), atomic(tmp_path / ("x" * 300)):
        pytest.fail("the block ran")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@BOTH
def test_folder_without_permission_is_refused(atomic: Atomic, tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(OutputError, match="Permission"), atomic(tmp_path / "out"):
        pytest.fail("the block ran")


@BOTH
def test_permissions_are_those_of_any_new_file(atomic: Atomic, tmp_path: Path) -> None:
    make(atomic, tmp_path / "usual", "usual")
    with atomic(tmp_path / "out") as work:
        fill(work)
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode
