"""How fast data sets are fingerprinted on this machine, against plain hashing.

Usage: ``python benchmarks/fingerprint.py [--size MIB] [--files N]``. First large files, one and
many of the same size together, all in the page cache: bytes a second over what a plain ``hashlib``
loop over memory does on one thread, times the cores. Then many small files: seconds of the command,
once when it has never seen them and once more when none has changed. Makes its files in a temporary
folder (``--work`` says where) and a cache of its own, and removes both.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from mlopsc.cache import FOLDER_VARIABLE, SIZE_VARIABLE
from mlopsc.cli.render import echo_table
from mlopsc.data import read_contents
from mlopsc.data.hashing import cores

ROUNDS = 5  # of which the fastest counts
MANY = 32
PER_FOLDER = 1000
ALL_CORES = "plain loops on all cores"
SETTLED_S = 2.5  # after which a file counts as not being written
SHARE = 0.8  # of the cores' rate, which large files should reach
UNCHANGED_S = 2.0  # what 100,000 unchanged files may take
MIB = 1 << 20


def plain_rate(threads: int) -> float:
    """Return the bytes a second of threads that hash 128 MiB of memory each."""

    def loop() -> None:
        data = bytes(range(256)) * (MIB // 256)
        for _ in range(128):
            hashlib.sha256(data).digest()

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(loop) for _ in range(threads)]:
            done.result()
    return threads * 128 * MIB / (time.perf_counter() - start)


def rate(path: Path, nbytes: int) -> float:
    """Return the bytes a second of a fingerprint without a cache."""
    start = time.perf_counter()
    contents = read_contents(path, cache=False)
    seconds = time.perf_counter() - start
    assert contents.nbytes == nbytes
    return nbytes / seconds


def write(path: Path, mebibytes: int) -> None:
    """Write a file of random bytes."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for place in range(mebibytes):
            file.write(place.to_bytes(8, "big") + block[8:])


def large_files(folder: Path, mebibytes: int) -> list[list[str]]:
    """Return the rows of one large file and of many."""
    write(folder / "one", mebibytes)
    (folder / "many").mkdir()
    each = max(1, mebibytes // MANY)
    for place in range(MANY):
        write(folder / "many" / f"{place:02}", each)
    contestants: dict[str, Callable[[], float]] = {
        "plain": lambda: plain_rate(1),
        ALL_CORES: lambda: plain_rate(cores()),
        f"one file of {mebibytes} MiB": lambda: rate(folder / "one", mebibytes * MIB),
        f"{MANY} files of {each} MiB": lambda: rate(folder / "many", MANY * each * MIB),
    }
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(ROUNDS):  # in turns: a machine that is busy for a while is so for all
        for name, measure in contestants.items():
            best[name] = max(best[name], measure())
    plain, count = best.pop("plain"), cores()
    click.echo(f"{count} cores, plain SHA-256 on one thread: {plain / MIB:.0f} MiB/s")
    return [
        [
            name,
            f"{found / MIB:.0f} MiB/s",
            f"{found / (plain * count):.2f}",
            "1.0 if nothing else runs" if name == ALL_CORES else f"{SHARE} or more",
        ]
        for name, found in best.items()
    ]


def command_seconds(folder: Path, cache: Path) -> float:
    """Return the seconds of the command, Python's start included."""
    command = [sys.executable, "-m", "mlopsc", "data", "fingerprint", str(folder)]
    env = {**os.environ, FOLDER_VARIABLE: str(cache), SIZE_VARIABLE: str(1 << 32)}
    start = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def small_files(folder: Path, count: int, cache: Path) -> list[list[str]]:
    """Return the rows of many small files."""
    for place in range(count):
        parent = folder / f"{place // PER_FOLDER:04}"
        if place % PER_FOLDER == 0:
            parent.mkdir(parents=True)
        (parent / f"sample_{place:07}.txt").write_text(f"sample {place}\n" * 20)
    time.sleep(SETTLED_S)
    first = command_seconds(folder, cache)
    again = min(command_seconds(folder, cache) for _ in range(ROUNDS))
    limit = f"{UNCHANGED_S * count / 100_000:.1f} s or less"
    return [
        ["first", f"{first:.2f} s", f"{first / again:.1f}", ""],
        ["unchanged", f"{again:.2f} s", "1.0", limit],
    ]


@click.command()
@click.option("--size", default=1024, show_default=True, help="MiB of the large file.")
@click.option("--files", default=100_000, show_default=True, help="Number of small files.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder to make them in.")
def main(size: int, files: int, work: Path | None) -> None:
    """Measure large files, then small ones."""
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        rows = large_files(folder, size)
        columns = ["what", "rate", "of plain x cores", "should be"]
        echo_table(f"Large files, fastest of {ROUNDS}", columns, rows)
        if not files:
            return
        rows = small_files(folder / "small", files, folder / "cache")
        columns = ["run", "command", "to unchanged", "should be"]
        echo_table(f"{files:,} small files", columns, rows)


if __name__ == "__main__":
    main()
