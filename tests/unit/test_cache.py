"""What is kept comes back whole, or not at all; and nothing counts as unchanged that may differ."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support import tree

from mlopsc import cache as cache_module
from mlopsc import snapshot as snapshot_module
from mlopsc.cache import Cache, open_cache
from mlopsc.errors import InputError
from mlopsc.schema.common import digest_bytes
from mlopsc.snapshot import Snapshot, take_snapshot

KEY, OTHER = digest_bytes(b"one"), digest_bytes(b"other")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1 << 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files to keep, 1100 bytes."""
    made = tmp_path / "made"
    (made / "lib" / "deep").mkdir(parents=True)
    (made / "model.json").write_bytes(b"{}" * 50)
    (made / "lib" / "deep" / "model.a").write_bytes(os.urandom(1000))
    return made


def entry_of(cache: Cache, key: str = KEY) -> Path:
    return cache.folder / key.removeprefix("sha256:")


# The folder of entries ---------------------------------------------------------------------------


def test_folder_comes_back_as_it_was(cache: Cache, folder: Path, tmp_path: Path) -> None:
    assert not cache.fetch(KEY, tmp_path / "out")
    cache.store(KEY, folder)
    assert cache.fetch(KEY, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(folder)
    assert not cache.fetch(OTHER, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_file_comes_back_under_any_name(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "a.mlb").write_bytes(b"bundle")
    cache.store(KEY, tmp_path / "a.mlb")
    assert cache.fetch(KEY, tmp_path / "b.mlb")
    assert (tmp_path / "b.mlb").read_bytes() == b"bundle"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped bit": lambda entry: flip(entry / "content" / "lib" / "deep" / "model.a"),
    "longer": lambda entry: (entry / "content" / "model.json").write_bytes(b"{}" * 51),
    "shorter": lambda entry: (entry / "content" / "model.json").write_bytes(b"{}" * 49),
    "missing file": lambda entry: (entry / "content" / "model.json").unlink(),
    "folder for a file": lambda entry: (
        (entry / "content" / "model.json").unlink(),
        (entry / "content" / "model.json").mkdir(),
    ),
    "no JSON": lambda entry: (entry / "entry.json").write_text("{"),
    "empty": lambda entry: (entry / "entry.json").write_text(""),
    "path outside": lambda entry: (entry / "entry.json").write_text(
        (entry / "entry.json").read_text().replace("model.json", "../../../stolen")
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_entry_is_a_miss(damage: str, cache: Cache, folder: Path, tmp_path: Path) -> None:
    cache.store(KEY, folder)
    DAMAGES[damage](entry_of(cache))
    assert not cache.fetch(KEY, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert damage == "folder for a file" or list(cache.folder.iterdir()) == []
    cache.store(KEY, folder)  # whoever missed it makes it again
    assert cache.fetch(KEY, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(folder)


def test_entry_under_the_name_of_another_is_a_miss(
    cache: Cache, folder: Path, tmp_path: Path
) -> None:
    cache.store(KEY, folder)
    shutil.copytree(entry_of(cache), entry_of(cache, OTHER))
    assert not cache.fetch(OTHER, tmp_path / "out")


def test_what_was_not_used_for_longest_goes_first(folder: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 3500)
    keys = [digest_bytes(str(number).encode()) for number in range(4)]
    for age, key in enumerate(keys[:3]):
        cache.store(key, folder)
        os.utime(entry_of(cache, key) / "entry.json", (1000 + age, 1000 + age))
    assert cache.fetch(keys[0], tmp_path / "used")
    cache.store(keys[3], folder)
    kept = [cache.fetch(key, tmp_path / f"kept{n}") for n, key in enumerate(keys)]
    assert kept == [True, False, True, True]
    assert cache.usage() == cache_module.Usage(3, 3300)


def test_what_is_larger_than_the_cache_is_not_kept(folder: Path, tmp_path: Path) -> None:
    small = Cache(tmp_path / "cache", 1500)
    small.store(KEY, folder)
    (folder / "more").write_bytes(bytes(1000))
    small.store(OTHER, folder)
    assert small.fetch(KEY, tmp_path / "out") and not small.fetch(OTHER, tmp_path / "other")


def test_disabled_cache_holds_and_makes_nothing(cache: Cache, folder: Path, tmp_path: Path) -> None:
    disabled = replace(cache, limit=0)
    disabled.store(KEY, folder)
    assert not cache.folder.exists()
    cache.store(KEY, folder)
    assert not disabled.fetch(KEY, tmp_path / "out")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupt_leaves_nothing(
    error: type[BaseException],
    cache: Cache,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = cache_module._copy

    def fail(source: Path, destination: Path) -> str:
        if destination.name == "model.json":
            raise error
        return copy(source, destination)

    def attempt(action: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, "_copy", fail)
            if error is KeyboardInterrupt:
                with pytest.raises(KeyboardInterrupt):
                    action()
            else:
                action()

    attempt(lambda: cache.store(KEY, folder))
    assert list(cache.folder.iterdir()) == []
    cache.store(KEY, folder)
    attempt(lambda: cache.fetch(KEY, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert cache.fetch(KEY, tmp_path / "out"), "trouble with the destination harmed the cache"


def test_folder_that_cannot_be_used_is_no_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    cache = Cache(tmp_path / "file" / "cache", 1 << 20)
    cache.store(KEY, folder)
    assert not cache.fetch(KEY, tmp_path / "out")
    assert cache.usage() == cache.clear() == cache_module.Usage(0, 0)


def test_clearing_leaves_what_is_not_ours(cache: Cache, folder: Path) -> None:
    cache.store(KEY, folder)
    (cache.folder / "notes.txt").write_text("mine")
    (cache.folder / f"{'0' * 64}.{'0' * 16}.part").mkdir()
    assert cache.clear() == cache_module.Usage(1, 1100)
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]


def test_what_a_dead_process_began_goes_and_what_a_live_one_does_stays(
    cache: Cache, folder: Path
) -> None:
    cache.folder.mkdir()
    old, new = (cache.folder / f"{'0' * 64}.{digit * 16}.part" for digit in "01")
    old.mkdir()
    new.mkdir()
    os.utime(old, (time.time() - 200_000,) * 2)
    cache.store(KEY, folder)
    assert sorted(p.name for p in cache.folder.iterdir()) == sorted(
        [new.name, entry_of(cache).name]
    )


def test_many_at_once_see_whole_entries_only(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 5000)  # entries go all the time
    keys = [digest_bytes(str(number).encode()) for number in range(4)]
    for number in range(4):
        (tmp_path / f"made{number}").mkdir()
        for name in "abc":
            (tmp_path / f"made{number}" / name).write_bytes(bytes([number]) * 500)

    def work(seed: int) -> int:
        hits = 0
        for turn in range(40):
            number = (seed * 7 + turn * 3) % 4
            out = tmp_path / f"out-{seed}-{turn}"
            if cache.fetch(keys[number], out):
                hits += 1
                assert tree(out) == tree(tmp_path / f"made{number}")
            else:
                assert not out.exists()
                cache.store(keys[number], tmp_path / f"made{number}")
        return hits

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 0
    assert not list(cache.folder.glob("*.part"))
    assert cache.usage().nbytes <= 5000


def test_environment_says_where_and_how_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLOPSC_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MLOPSC_CACHE_BYTES", "123")
    assert open_cache() == Cache(tmp_path, 123)
    assert open_cache(enabled=False) == Cache(tmp_path, 0)
    monkeypatch.delenv("MLOPSC_CACHE_BYTES")
    assert open_cache().limit == 4 << 30
    monkeypatch.delenv("MLOPSC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert open_cache().folder.name == "results"
    for wrong in ("-1", "4G", "1.5", "٣"):
        monkeypatch.setenv("MLOPSC_CACHE_BYTES", wrong)
        with pytest.raises(InputError, match=wrong):
            open_cache()


# What results depend on --------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"model")
    return path


def key(source: Path) -> str:
    found = take_snapshot({"model": source})
    assert found is not None
    return found.key("bundle", name="m")


def test_equal_content_gives_equal_keys_wherever_it_lies(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.onnx"
    copy.write_bytes(source.read_bytes())
    os.utime(copy, (1, 1))
    assert key(source) == key(copy)


def test_everything_else_gives_another_key(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = take_snapshot({"model": source})
    assert taken is not None
    keys = [key(source)]
    keys += [taken.key("package", name="m"), taken.key("bundle", name="n")]
    keys += [taken.key("bundle", name="m", bind={"n": 1})]

    with monkeypatch.context() as patch:
        patch.setenv("CPATH", "/somewhere")
        keys.append(key(source))
    with monkeypatch.context() as patch:
        patch.setattr(snapshot_module, "cpu_facts", lambda: {"flags": "warp_drive"})
        keys.append(key(source))
    with monkeypatch.context() as patch:
        patch.setattr(snapshot_module, "LOADED_AT", time.time() + 60)
        code = tmp_path / "code.py"
        code.write_text("x = 1\n")
        patch.setattr(snapshot_module, "_code", lambda: iter([code]))
        keys.append(key(source))
        code.write_text("x = 2\n")
        keys.append(key(source))
    with monkeypatch.context() as patch:
        patch.setattr(snapshot_module, "LOADED_AT", time.time() + 60)
        (tmp_path / "site" / "tool-1.0.dist-info").mkdir(parents=True)
        patch.syspath_prepend(str(tmp_path / "site"))
        keys.append(key(source))
        (tmp_path / "site" / "tool-1.0.dist-info").rename(tmp_path / "site" / "tool-1.1.dist-info")
        keys.append(key(source))
    source.write_bytes(b"Model")
    keys.append(key(source))
    assert len(set(keys)) == len(keys)


def test_all_code_counts() -> None:
    names = {path.name for path in snapshot_module._code()}
    assert {"pipeline.py", "layout.py", "mlopsc.h", "mlopsc_expf.c", "Makefile.bare.in"} <= names
    installed = {path.name.partition("-")[0] for path in snapshot_module._installed()}
    assert {"apache_tvm", "onnx", "onnxruntime", "ziglang", "numpy"} <= installed


def test_variables_without_effect_do_not_count(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(source)
    monkeypatch.setenv("MLOPSC_CACHE_DIR", "/elsewhere")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", "/elsewhere")
    monkeypatch.setenv("COLUMNS", "40")
    assert key(source) == before


def test_change_meanwhile_is_seen_even_if_it_is_undone(source: Path) -> None:
    taken = take_snapshot({"model": source})
    assert taken is not None and taken.holds()
    time.sleep(0.02)  # two writes in one tick of the clock of the disk
    source.write_bytes(b"other")
    assert not taken.holds()
    source.write_bytes(b"model")
    assert not taken.holds()


@pytest.mark.parametrize("what", ["code", "package"])
def test_what_changed_since_this_process_began_is_in_doubt(
    what: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "code":
        new = tmp_path / "code.py"
        new.write_text("x = 1\n")
        monkeypatch.setattr(snapshot_module, "_code", lambda: iter([new]))
    else:
        new = tmp_path / "site" / "tool-1.0.dist-info"
        new.mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
    os.utime(new, (1, 1))  # as if it were old: its time of change tells
    assert take_snapshot({"model": source}) is None


def test_what_cannot_be_read_has_no_snapshot(source: Path, tmp_path: Path) -> None:
    def taken(path: Path) -> Snapshot | None:
        return take_snapshot({"model": source, "vectors": path})

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "missing", tmp_path, Path("/dev/zero")):
        assert taken(path) is None
    assert taken(Path("a\0b")) is None


def test_files_larger_than_the_cache_are_not_read(source: Path, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    files = {"model": source, "vectors": tmp_path / "large"}
    assert take_snapshot(files, limit=4 << 30) is None
    assert take_snapshot({"model": source}, limit=0) is None
