"""Damage to what ships is noticed: by the digests, and, where they agree, by running it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from support import copy_package, redigest, shipped_library

import mlopsc
from mlopsc import pipeline
from mlopsc.errors import BrokenPackageError
from mlopsc.package.gate import _wasm_sections as wasm_sections
from mlopsc.package_reader import read_package

TARGETS = ("host", "cortex-m7", "wasm32-simd")
WINDOW = 256
STUCK_S = 10.0  # damaged code may loop for ever


@pytest.fixture(scope="module")
def with_source(digits_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packages with their C, which says what bytes the weights are."""
    output = tmp_path_factory.mktemp("with_source")
    mlopsc.build(digits_bundle, TARGETS, output, source_code=True)
    return {name: output / name for name in TARGETS}


def weights_of(package: Path) -> bytes:
    text = (package / "src" / "weights.c").read_text()
    return bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})\b", text))


def place_of_weights(package: Path) -> range:
    """Return where the weights lie in the library that conformance runs."""
    weights, data = weights_of(package), shipped_library(package).read_bytes()
    start = data.find(weights)
    assert start >= 0, "the weights are not in the library as one block"
    assert len(weights) == read_package(package).info.memory.weights
    return range(start, start + len(weights))


def places_of_code(package: Path) -> list[range]:
    """Return where the instructions of the kernels lie in that library."""
    library = shipped_library(package)
    data = library.read_bytes()
    if library.suffix == ".wasm":
        return [range(start, end) for kind, start, end in wasm_sections(data) if kind == 10]
    return list(_code_sections(data))


def _code_sections(data: bytes) -> Iterator[range]:
    at = data.find(b"\x7fELF")
    while at >= 0:
        for section in ELFFile(io.BytesIO(data[at:])).iter_sections():
            # A static library has a section per function; what the linker drops is left out.
            whole = section.name == ".text" or "_k" in section.name
            if section["sh_flags"] & 4 and whole and section["sh_size"] > 64:
                start = at + section["sh_offset"]
                yield range(start, start + section["sh_size"])
        at = data.find(b"\x7fELF", at + 4)


def windows(place: range, count: int) -> list[range]:
    """Return at most ``count`` windows spread evenly over ``place``."""
    size = min(WINDOW, len(place))
    step = max(size, (len(place) - size) // max(count - 1, 1))
    starts = range(place.start, place.stop - size + 1, step)
    return [range(start, start + size) for start in starts][:count]


def zeroed(data: bytes, window: range) -> bytes:
    return data[: window.start] + bytes(len(window)) + data[window.stop :]


@pytest.mark.parametrize("target", TARGETS)
def test_every_zeroed_window_of_a_library_fails_its_digest(
    target: str, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(digits_packages[target], tmp_path)
    libraries = sorted((package / "lib").iterdir())
    assert libraries
    damaged = 0
    for library in libraries:
        data = library.read_bytes()
        for start in range(0, len(data), WINDOW):
            altered = zeroed(data, range(start, min(start + WINDOW, len(data))))
            if altered == data:
                continue  # zeros already
            library.write_bytes(altered)
            damaged += 1
            with pytest.raises(BrokenPackageError, match=library.name):
                mlopsc.conform(package)
        library.write_bytes(data)
    assert damaged > 150
    assert mlopsc.conform(package).verdict == "pass"


def is_noticed(package: Path) -> bool:
    try:
        return pipeline.conform(package, timeout=STUCK_S).verdict == "mismatch"
    except BrokenPackageError:
        return True


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("what", "count"), [("weights", 12), ("code", 4)])
def test_zeroed_window_is_noticed_by_running_even_if_digests_agree(
    what: str, count: int, target: str, with_source: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(with_source[target], tmp_path)
    library = shipped_library(package)
    data = library.read_bytes()
    if what == "weights":
        chosen = windows(place_of_weights(package), count)
    else:
        largest = sorted(places_of_code(package), key=len, reverse=True)[:count]
        chosen = [w for place in largest for w in windows(place, -(-count // len(largest)))]
    noticed = []
    for window in chosen:
        altered = zeroed(data, window)
        assert altered != data
        library.write_bytes(altered)
        redigest(package)
        noticed.append(is_noticed(package))
    share = sum(noticed) / len(noticed)
    print(f"{target}: {share:.0%} of {len(noticed)} zeroed windows of its {what} were noticed")
    assert len(noticed) >= min(count, 4)
    assert share >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_nearly_every_zeroed_window_of_the_weights_is_noticed(
    target: str, with_source: dict[str, Path], tmp_path: Path
) -> None:
    package = copy_package(with_source[target], tmp_path)
    library = shipped_library(package)
    data = library.read_bytes()
    noticed = []
    for window in windows(place_of_weights(package), 60):
        library.write_bytes(zeroed(data, window))
        redigest(package)
        noticed.append(is_noticed(package))
    share = sum(noticed) / len(noticed)
    print(f"{target}: {share:.1%} of {len(noticed)} zeroed windows of its weights were noticed")
    assert len(noticed) >= 50
    assert share >= 0.9


@pytest.mark.parametrize("target", TARGETS)
def test_a_single_wrong_sign_in_the_weights_is_noticed(
    target: str, with_source: dict[str, Path], tmp_path: Path
) -> None:
    """The largest weight of all matters so much that one bit of it is enough."""
    package = copy_package(with_source[target], tmp_path)
    library = shipped_library(package)
    data = bytearray(library.read_bytes())
    place = place_of_weights(package)
    values = np.frombuffer(bytes(data[place.start : place.stop]), "<f4")
    largest = int(np.argmax(np.abs(np.where(np.abs(values) < 1e6, values, 0))))
    data[place.start + 4 * largest + 3] ^= 0x80
    library.write_bytes(data)
    redigest(package)
    assert mlopsc.conform(package).verdict == "mismatch"


def test_copy_that_is_not_damaged_conforms(with_source: dict[str, Path], tmp_path: Path) -> None:
    """The helpers of this file do no damage of their own."""
    for target in TARGETS:
        package = copy_package(with_source[target], tmp_path)
        redigest(package)
        assert mlopsc.conform(package).verdict == "pass"
