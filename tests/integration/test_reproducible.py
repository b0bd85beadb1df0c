"""The same model gives the same bytes: wherever, whenever and by whomever it is built."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support import REPOSITORY, copy_package, run_cli, tree

import mlopsc

TARGETS = [
    "host",
    "cortex-m7",
    pytest.param("aarch64-generic", marks=pytest.mark.slow),
    pytest.param("wasm32-simd", marks=pytest.mark.slow),
]


def import_digits(digits: Path, folder: Path, name: str, env: dict[str, str], cwd: Path) -> Path:
    result = run_cli(
        "import", digits / "digits.onnx", "-o", folder / name,
        "--preprocess", digits / "preprocess.onnx", "--vectors", digits / "vectors.npz",
        cwd=cwd, env=env,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder / name


def build(bundle: Path, targets: list[str], output: Path, env: dict[str, str], cwd: Path) -> None:
    flags = [word for target in targets for word in ("-t", target)]
    result = run_cli("build", bundle, *flags, "-o", output, "--source", cwd=cwd, env=env)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder to work in, and the environment of the one who does."""
    return tmp_path_factory.mktemp("here"), {"PYTHONHASHSEED": "1", "TZ": "UTC", "LANG": "C"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Another folder, home, cache, time zone, language and order of hashes."""
    folder = tmp_path_factory.mktemp("there") / "deeper down" / "somewhere else"
    folder.mkdir(parents=True)
    (folder / "temporary").mkdir()
    env = {
        "PYTHONHASHSEED": "4711",
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TMPDIR": str(folder / "temporary"),
        "TZ": "Asia/Kolkata",
        "LANG": "de_DE.UTF-8",
        "USER": "somebody",
    }
    return folder, env


@pytest.fixture(scope="module")
def bundles(
    digits_folder: Path,
    here: tuple[Path, dict[str, str]],
    there: tuple[Path, dict[str, str]],
) -> tuple[Path, Path]:
    """The bundle of the example, imported here and, at a later time, there."""
    first = import_digits(digits_folder, here[0], "one.mlb", here[1], here[0])
    time.sleep(2.1)  # zip files count time in steps of two seconds, archives in seconds
    second = import_digits(digits_folder, there[0], "other name.mlb", there[1], REPOSITORY)
    return first, second


def test_bundles_are_equal(bundles: tuple[Path, Path]) -> None:
    first, second = (bundle.read_bytes() for bundle in bundles)
    assert first == second


@pytest.mark.parametrize("target", TARGETS)
def test_packages_are_equal(
    target: str,
    bundles: tuple[Path, Path],
    here: tuple[Path, dict[str, str]],
    there: tuple[Path, dict[str, str]],
) -> None:
    build(bundles[0], [target], here[0] / "out", here[1], here[0])
    time.sleep(1.1)
    build(bundles[1], [target], there[0] / "the output", there[1], REPOSITORY)
    first, second = tree(here[0] / "out" / target), tree(there[0] / "the output" / target)
    assert {p for p in first | second if first.get(p) != second.get(p)} == set()
    assert len(first) > 25
    for path in (here[0] / "out" / target).rglob("*"):
        if path.is_file():
            check_no_machine(path, [here[0], there[0], REPOSITORY, Path.home()])


def check_no_machine(file: Path, folders: list[Path]) -> None:
    """Check that no path of the machine got into ``file``."""
    data = file.read_bytes()
    for folder in folders:
        assert os.fsencode(folder) not in data, f"{file.name} holds {folder}"
    for word in (b"/tmp/", b"mlopsc-package-", b"mlopsc-build-", b"site-packages"):
        assert word not in data, f"{file.name} holds {word.decode()}"


def test_targets_do_not_depend_on_what_is_built_beside_them(
    digits_bundle: Path, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    mlopsc.build(digits_bundle, ["wasm32-simd", "cortex-m7"], tmp_path)
    for target in ("wasm32-simd", "cortex-m7"):
        assert tree(tmp_path / target) == tree(digits_packages[target])


def test_source_code_changes_nothing_but_itself(
    digits_bundle: Path, digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    mlopsc.build(digits_bundle, "cortex-m7", tmp_path, source_code=True)
    with_source, without = tree(tmp_path / "cortex-m7"), tree(digits_packages["cortex-m7"])
    added = {p for p in with_source if p not in without}
    assert all(p == "src" or p.startswith("src/") for p in added)
    changed = {p for p in without if without[p] != with_source[p]}
    assert changed == {"model.json", "provenance.json", "sbom.cdx.json"}, "what lists the files"


def test_build_from_onnx_is_the_build_from_its_bundle(digits_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "digits.onnx"  # alone: without the preprocessing that its lineage names
    source.write_bytes((digits_folder / "digits.onnx").read_bytes())
    mlopsc.import_model(source, tmp_path / "digits.mlb")
    mlopsc.build(tmp_path / "digits.mlb", "cortex-m7", tmp_path / "a")
    mlopsc.build(source, "cortex-m7", tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_conformance_is_repeatable(digits_packages: dict[str, Path], tmp_path: Path) -> None:
    for target in ("host", "cortex-m7", "wasm32-simd"):
        package = copy_package(digits_packages[target], tmp_path)
        mlopsc.conform(package)
        first = (package / "conformance.json").read_bytes()
        mlopsc.conform(package)
        assert (package / "conformance.json").read_bytes() == first
