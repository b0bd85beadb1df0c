"""Fixtures and rules that all tests share."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from support import PACKAGE_TARGETS, REPOSITORY, SHARED_MODELS

import mlopsc

# Tests are of what is made, never of what was kept; tests of the cache turn it on for themselves.
os.environ["MLOPSC_CACHE_BYTES"] = "0"
os.environ["MLOPSC_LOG_DIR"] = ""  # the user's log is not for tests; those of the log name one


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a program or models that are not there, and say which."""
    for marker in item.iter_markers("tool"):
        missing = [name for name in marker.args if shutil.which(name) is None]
        if missing:
            pytest.skip(f"not on PATH: {', '.join(missing)}")
    for marker in item.iter_markers("framework"):
        missing = [name for name in marker.args if importlib.util.find_spec(name) is None]
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")
    if item.get_closest_marker("shared_models") and not SHARED_MODELS.is_dir():
        pytest.skip(f"no extra models in {SHARED_MODELS.relative_to(REPOSITORY.parent)}")


@pytest.fixture(scope="session")
def digits_folder() -> Path:
    """The example model: its network, preprocessing and labelled vectors."""
    return REPOSITORY / "examples" / "digits"


@pytest.fixture(scope="session")
def digits_bundle(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, imported with its preprocessing and vectors. Not to be changed."""
    output = tmp_path_factory.mktemp("digits") / "digits.mlb"
    mlopsc.import_model(
        digits_folder / "digits.onnx",
        output,
        preprocess=digits_folder / "preprocess.onnx",
        vectors=digits_folder / "vectors.npz",
        version="1.0",
    )
    return output


@pytest.fixture(scope="session")
def digits_packages(
    digits_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Packages of the example by target. Not to be changed: copy one to damage it."""
    output = tmp_path_factory.mktemp("packages")
    mlopsc.build(digits_bundle, PACKAGE_TARGETS, output)
    return {name: output / name for name in PACKAGE_TARGETS}


@pytest.fixture
def shared_models() -> Path:
    """The folder of real models that are not part of the project."""
    if not SHARED_MODELS.is_dir():
        pytest.skip(f"no extra models in {SHARED_MODELS.relative_to(REPOSITORY.parent)}")
    return SHARED_MODELS
