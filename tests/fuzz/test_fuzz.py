"""Small budgets of what ``run.py`` does for long; seeds are fixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import exports
import models
import mutants
import numpy as np
import pytest
import random_graphs
from models import node, value


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mutants.Judge]:
    """One judge, whose processes start once."""
    made = mutants.Judge(tmp_path_factory.mktemp("mutants"))
    yield made
    made.close()


@pytest.mark.parametrize("number", range(len(mutants.corpus())))
def test_models_that_mutants_come_from(number: int, judge: mutants.Judge) -> None:
    outcome = judge.judge(mutants.corpus()[number])
    assert outcome.kind in ("imported", "refused"), outcome


def test_mutants(judge: mutants.Judge) -> None:
    kinds: Counter[str] = Counter()
    for seed in range(100):
        outcome = judge.judge(mutants.mutant(seed))
        assert outcome.kind != "fault", (seed, outcome.text)
        kinds[outcome.kind] += 1
        kinds["compared"] += outcome.compared
    assert kinds["refused"] > 0
    assert kinds["compared"] > 0


def test_mutants_are_the_same_each_time() -> None:
    assert [mutants.mutant(s) for s in range(50)] == [mutants.mutant(s) for s in range(50)]


def test_judge_notices_wrong_outputs(judge: mutants.Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    model = mutants.corpus()[1]
    assert judge.judge(model) == mutants.Outcome("imported", "", compared=True)
    answers = judge._answers

    def wrong(bundle: Any) -> Any:
        found = answers(bundle)
        found[-1]["y"].ravel()[-1] += np.float32(0.5)
        return found

    monkeypatch.setattr(judge, "_answers", wrong)
    assert judge.judge(model).kind == "fault"


def test_random_graphs() -> None:
    figures, findings = random_graphs.check_graphs(40, 0)
    assert findings == []
    assert figures["equal"] > 30


def test_check_of_random_graphs_notices_wrong_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.one_op("Relu", [2, 3])
    samples = [{"x": np.ones((2, 3), np.float32)}] * random_graphs.SAMPLES
    assert random_graphs.check([(model, samples)])["equal"] == 1
    wrong = [{"y": np.zeros((2, 3), np.float32)}] * random_graphs.SAMPLES
    monkeypatch.setattr(random_graphs, "run_original", lambda path, given: wrong)
    with pytest.raises(AssertionError, match="expected"):
        random_graphs.check([(model, samples)])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
def test_equality_of_every_kind_of_element(dtype: str) -> None:
    """A finding: truth values were compared as floats, which the compiler refused."""
    model = models.model(
        [node("Equal", ["x", "k"], ["a"]), node("Not", ["a"], ["b"])],
        [value("x", [2, 3], dtype)],
        [value("a", [2, 3], "bool"), value("b", [2, 3], "bool")],
        {"k": np.array([1, 0, 1], dtype)},
        opset=random_graphs.OPSET,
    )
    sample = {"x": np.array([[1, 1, 0], [0, 0, 1]], dtype)}
    assert random_graphs.check([(model, [sample] * random_graphs.SAMPLES)])["equal"] == 1


def _picked(op: str, *truths: str) -> list[Any]:
    """Choose by what ``op`` says."""
    return [node(op, list(truths), ["c"]), node("Where", ["c", "x", "zero"], ["y"])]


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Sub", ["x", "x"], ["y"])],
        [node("Add", ["x", "one"], ["a"]), node("Sub", ["a", "x"], ["y"])],
        [node("Equal", ["x", "x"], ["b"]), node("Where", ["b", "x", "zero"], ["y"])],
        [node("Div", ["zero", "x"], ["y"])],
        [node("Mul", ["x", "zero"], ["y"])],
        [node("Greater", ["x", "one"], ["b"]), *_picked("Not", "b")],
        [node("Less", ["x", "one"], ["b"]), *_picked("Xor", "b", "truth")],
        [node("LessOrEqual", ["x", "one"], ["b"]), *_picked("Equal", "b", "falsehood")],
    ],
    ids=["x - x", "x + 1 - x", "x == x", "0 / x", "x * 0", "not >", "xor <", "== <="],
)
def test_arithmetic_keeps_what_only_floats_do(nodes: list[Any]) -> None:
    """Findings: simplification took x - x for 0, x == x for true and not (a > b) for a <= b."""
    model = models.model(
        nodes,
        [value("x", [6])],
        [value("y", [6])],
        {
            "zero": np.float32(0),
            "one": np.float32(1),
            "truth": np.array(True),
            "falsehood": np.array(False),
        },
        opset=random_graphs.OPSET,
    )
    sample = {"x": np.array([0, 1, -0.0, np.inf, np.nan, 3], np.float32)}
    random_graphs.check([(model, [sample] * random_graphs.SAMPLES)])


@pytest.mark.slow
@pytest.mark.parametrize("name", exports.MUTATED)
def test_mutants_of_framework_files(name: str) -> None:
    case = next((case for case in exports.formats() if case.name == name), None)
    if case is None:
        pytest.skip("its framework is not installed")
    base = exports.format_of(case)
    with exports.judge_of(case.framework) as judge:
        assert judge.judge(base.files, base).kind == "imported"
        for seed in range(5):
            outcome = judge.judge(exports.mutant(base, seed), base)
            assert outcome.kind != "fault", (seed, outcome.text)
