"""``mlopsc data``: what it prints and saves, exit codes, interrupts, several at once, memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from support import HANG_S, check_refused, run_cli, unchanged

import mlopsc
from mlopsc.errors import DataChangedError, DataError, OutputError
from mlopsc.schema.fingerprint import Fingerprint


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of three files."""
    folder = tmp_path / "data"
    (folder / "b").mkdir(parents=True)
    (folder / "one").write_bytes(b"1")
    (folder / "b" / "two").write_bytes(b"22" * 9000)
    (folder / "b" / "three").write_bytes(b"333")
    return folder


def test_each_path_gets_a_digest(data: Path) -> None:
    result = run_cli("data", "fingerprint", "data", "data/one", cwd=data.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        f"data: 3 files, 17.6 KiB\n  digest   {mlopsc.fingerprint(data).digest}\n"
        f"data/one: 1 file, 1 B\n  digest   {mlopsc.fingerprint(data / 'one').digest}\n"
    )
    assert result.stderr == ""
    result = run_cli("data", "fingerprint", "--json", "data", "data/one", cwd=data.parent)
    assert json.loads(result.stdout) == [
        {
            "path": name,
            "digest": mlopsc.fingerprint(data.parent / name).digest,
            "files": files,
            "bytes": nbytes,
        }
        for name, files, nbytes in (("data", 3, 18004), ("data/one", 1, 1))
    ]


def test_a_fingerprint_is_saved_and_compared(data: Path, tmp_path: Path) -> None:
    saved = tmp_path / "v1.json"
    result = run_cli("data", "fingerprint", data, "-o", saved)
    assert result.returncode == 0, result.stderr
    assert Fingerprint.from_file(saved) == mlopsc.fingerprint(data)
    assert saved.read_text(encoding="utf-8") == mlopsc.fingerprint(data).to_json()

    result = run_cli("data", "diff", saved, data, "--exit-code")
    assert (result.returncode, result.stdout) == (0, "3 unchanged\n")

    (data / "one").write_bytes(b"2")
    (data / "b" / "two").rename(data / "moved")
    (data / "b" / "three").unlink()
    (data / "new\n\x1b[1m").write_bytes(b"n")
    result = run_cli("data", "diff", saved, data)
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        "removed   b/three\nadded     new\\n\\x1b[1m\nchanged   one\nrenamed   b/two -> moved\n"
        "1 added, 1 removed, 1 changed, 1 renamed, 0 unchanged\n"
    )
    found = json.loads(run_cli("data", "diff", saved, data, "--json").stdout)
    assert found == {
        "old": Fingerprint.from_file(saved).digest,
        "new": mlopsc.fingerprint(data).digest,
        "added": ["new\n\x1b[1m"],
        "removed": ["b/three"],
        "changed": ["one"],
        "renamed": [["b/two", "moved"]],
        "unchanged": 0,
    }
    result = run_cli("data", "diff", saved, data, "--exit-code")
    check_refused(result, DataChangedError, "v1.json", mlopsc.fingerprint(data).digest)
    assert "changed   one" in result.stdout


def test_files_are_compared_as_data_sets(data: Path) -> None:
    result = run_cli("data", "diff", data / "one", data / "b" / "three")
    assert result.stdout == "changed   .\n1 changed, 0 unchanged\n"


def test_outputs_are_never_replaced_or_part_of_the_data(data: Path, tmp_path: Path) -> None:
    (tmp_path / "v1.json").write_text("mine")
    (tmp_path / "link").symlink_to(data)
    with unchanged(tmp_path):
        result = run_cli("data", "fingerprint", data, "-o", tmp_path / "v1.json")
        check_refused(result, OutputError, "v1.json", "--force")
        for output in (data / "b" / "v1.json", tmp_path / "link" / "v1.json"):
            result = run_cli("data", "fingerprint", data, "-o", output, "--force")
            check_refused(result, OutputError, output, "outside")
    result = run_cli("data", "fingerprint", data, "-o", tmp_path / "v1.json", "--force")
    assert result.returncode == 0, result.stderr
    assert Fingerprint.from_file(tmp_path / "v1.json") == mlopsc.fingerprint(data)


def test_failures_leave_no_output(data: Path, tmp_path: Path) -> None:
    (data / "link").symlink_to("one")
    with unchanged(tmp_path):
        result = run_cli("data", "fingerprint", data, "-o", tmp_path / "v1.json")
        check_refused(result, DataError, "link", "symbolic link")
        assert result.stdout == ""
        check_refused(run_cli("data", "diff", tmp_path / "no.json", data), DataError, "no.json")


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["fingerprint"], "PATH..."),
        (["fingerprint", "a", "b", "-o", "c.json"], "one PATH"),
        (["fingerprint", "a", "-o", "c"], "NAME.json"),
        (["diff", "a"], "NEW"),
        (["verify"], "verify"),
    ],
)
def test_wrong_use_is_explained(arguments: list[str], mention: str) -> None:
    result = run_cli("data", *arguments)
    assert result.returncode == 2, result.stderr
    assert mention in result.stderr
    assert result.stdout == ""


def test_the_cache_holds_what_is_remembered(data: Path, tmp_path: Path) -> None:
    env = {"MLOPSC_CACHE_DIR": str(tmp_path / "cache"), "MLOPSC_CACHE_BYTES": str(1 << 20)}
    time.sleep(2.1)
    first = run_cli("data", "fingerprint", data, env=env)
    cached = json.loads(run_cli("cache", "--json", env=env).stdout)
    assert (cached["entries"], cached["bytes"]) == (1, 3 * 72)
    assert run_cli("data", "fingerprint", data, env=env).stdout == first.stdout
    assert run_cli("data", "fingerprint", data, "--no-cache", env=env).stdout == first.stdout
    assert run_cli("cache", "clear", env=env).stdout == "removed 1 entries, 216 B\n"


def test_several_at_once_agree(data: Path, tmp_path: Path) -> None:
    for place in range(300):
        (data / f"{place}").write_bytes(bytes([place % 256]) * place)
    env = {"MLOPSC_CACHE_DIR": str(tmp_path / "cache"), "MLOPSC_CACHE_BYTES": str(1 << 20)}
    time.sleep(2.1)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(run_cli, "data", "fingerprint", data, env=env) for _ in range(8)]
    expected = mlopsc.fingerprint(data).digest
    for run in runs:
        assert run.result().returncode == 0, run.result().stderr
        assert expected in run.result().stdout
    assert not list((tmp_path / "cache").glob("*.part"))


def wait_until_open(pid: int, path: Path) -> None:
    """Wait until the process ``pid`` reads the file ``path``."""
    descriptors = Path(f"/proc/{pid}/fd")
    if not descriptors.is_dir():  # not on Linux
        time.sleep(5)
        return
    end = time.monotonic() + HANG_S
    while time.monotonic() < end:
        for descriptor in descriptors.iterdir():
            with suppress(OSError):  # closed meanwhile
                if descriptor.readlink() == path:
                    return
    raise AssertionError(f"{path} was not opened")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_at_once(number: int, tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)  # no bytes on the disk; minutes to hash
    command = [sys.executable, "-m", "mlopsc", "data", "fingerprint", tmp_path / "huge"]
    command += ["-o", tmp_path / "v1.json"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until_open(process.pid, tmp_path / "huge")
    process.send_signal(number)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "mlopsc: interrupted; nothing was written"
    assert time.monotonic() - start < 10
    assert [path.name for path in tmp_path.iterdir()] == ["huge"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    code = (
        "import resource, sys, mlopsc\nfrom pathlib import Path\n"
        "from mlopsc.data import read_contents\n"
        "for path in sys.argv[1:]:\n"
        "    read_contents(Path(path))\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    for name, size in (("small", 64 << 20), ("large", 1 << 30)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "small", tmp_path / "large"],
        capture_output=True,
        text=True,
        check=True,
    )
    small, large = map(int, result.stdout.split())
    assert large - small < 4096  # KiB
