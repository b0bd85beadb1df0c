"""ONNX's own tests, by ONNX's own runner, end as ``docs/coverage.json`` says.

A sample by default; ``-m slow`` runs a sixth of them, ``-m "slow or exhaustive"`` all.
"""

from __future__ import annotations

import json
import sys

import onnx
import pytest
from support import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
sys.path.insert(0, str(REPOSITORY / "docs"))
import coverage_tables
import onnx_suite
import suite_engines

RECORD = json.loads((REPOSITORY / "docs" / "coverage.json").read_text(encoding="utf-8"))
RECORDED = {
    onnx_suite.Test(name, test): facts["mlopsc"]
    for name, tests in RECORD["tests"].items()
    for test, facts in tests.items()
}
pytestmark = pytest.mark.skipif(
    onnx.__version__ != RECORD["onnx"],
    reason=f"the record is of ONNX {RECORD['onnx']}, and each version has tests of its own",
)
EVERY = 60  # how many tests one of the sample stands for
# What the conformance cases cannot show, because the reference runtime has it not.
ALWAYS = [t for t in RECORDED if t.name.startswith("test_bitshift_right_int")]


def sample() -> list[onnx_suite.Test]:
    """Every so many of each verdict, by name; no large networks."""
    chosen = list(ALWAYS)
    for kind in onnx_suite.VERDICTS:
        tests = [t for t, verdict in RECORDED.items() if verdict.partition(":")[0] == kind]
        chosen += [t for t in tests if t.set != "light"][EVERY // 2 :: EVERY]
    return sorted(set(chosen))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> onnx_suite.Judge:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONNX_MODELS", str(tmp_path_factory.mktemp("models")))
        onnx_suite.all_tests()
        yield onnx_suite.Judge(suite_engines.ENGINES["mlopsc"][0]())


def check(judge: onnx_suite.Judge, test: onnx_suite.Test) -> None:
    verdict, expected = judge.verdict(test), RECORDED[test]
    assert verdict.partition(":")[0] == expected.partition(":")[0], (
        f"{verdict!r}, recorded as {expected!r}; if it is right, run: "
        f"python benchmarks/onnx_suite.py --json docs/coverage.json --match '^{test.name}$'"
    )


@pytest.mark.parametrize("test", sample(), ids=lambda test: test.name)
def test_sample(judge: onnx_suite.Judge, test: onnx_suite.Test) -> None:
    check(judge, test)


@pytest.mark.parametrize(
    "test",
    [
        pytest.param(test, marks=pytest.mark.exhaustive if number % 6 else pytest.mark.slow)
        for number, test in enumerate(RECORDED)
    ],
    ids=lambda test: test.name,
)
def test_all(judge: onnx_suite.Judge, test: onnx_suite.Test) -> None:
    check(judge, test)


def test_every_wrong_answer_that_is_recorded_is_explained() -> None:
    wrong = {t.name for t, verdict in RECORDED.items() if verdict.startswith(("wrong", "crashed"))}
    assert wrong == set(coverage_tables.DEVIATIONS)


def test_the_record_is_of_all_tests() -> None:
    assert {t for t in RECORDED} == set(onnx_suite.all_tests())
