"""Every model of the matrix imports, agrees with its framework, builds and conforms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from matrix import HOST, Case, all_cases, missing, run_case
from support import REPOSITORY

from mlopsc.errors import ConversionError

# One or two of each framework that the full run installs; for this machine alone they are quick.
QUICK = (
    "torch_cnn", "torch_text", "keras_image_head", "tf_frozen", "tflite_int8",
    "sklearn_random_forest", "sklearn_strings", "xgboost_binary", "lightgbm_categories",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_every_model(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("case", [c for c in all_cases() if c.name in QUICK], ids=lambda c: c.name)
def test_one_of_each_framework(case: Case, tmp_path: Path) -> None:
    check(replace(case, targets=HOST), tmp_path)


def check(case: Case, folder: Path) -> None:
    if absent := missing(case):
        pytest.skip(absent)
    if case.fails:
        with pytest.raises(ConversionError):
            run_case(case, folder)
        return
    result = run_case(case, folder)
    assert result.check.compared, result.check.reason
    assert result.check.drawn > 0
    assert not result.check.accepted
    assert result.verdicts == dict.fromkeys(case.targets, "pass")


def test_names_are_unique_and_the_quick_ones_are_there() -> None:
    names = [case.name for case in all_cases()]
    assert len(set(names)) == len(names)
    assert set(QUICK) <= set(names)


def test_the_record_is_of_all_models() -> None:
    record = json.loads((REPOSITORY / "docs" / "frontends.json").read_text(encoding="utf-8"))
    assert set(record) == {case.name for case in all_cases()}, (
        "run: python benchmarks/frontends.py --json docs/frontends.json"
    )
