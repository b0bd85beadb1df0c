"""What composite operators are rewritten to equals what the reference makes of them as they are:
import compares the two, and conformance compares what is compiled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import op_cases
import op_cases_composite
import op_cases_kernels
import op_cases_quantised
import op_cases_tabular
import op_cases_trees
import pytest
from op_cases import Case
from op_cases_expanded import CASES

import mlopsc
from mlopsc.bundle import graph_signature, read_bundle
from mlopsc.core_ops import CORE_OPS, EXPANDED_IF, EXPANDED_OPS
from mlopsc.importer.normalise import normalise
from mlopsc.importer.normalise.expansions import EXPANSIONS
from mlopsc.labels import to_strings
from mlopsc.reference import run_graph

GROUPS = {
    **{f"opset {opset}": cases for opset, cases in CASES.items()},
    "tabular": lambda: [*op_cases_tabular.cases(), *op_cases_trees.ensembles()],
    "trees": op_cases_trees.cases,
    "opset 21": op_cases_quantised.cases,
    "composite": op_cases_composite.cases,
    "opset 24": op_cases_composite.recent,
    "optimisers": op_cases_composite.optimisers,
}


def test_the_table_of_expanded_operators_is_the_pass() -> None:
    names = {f"{domain}::{name}" if domain else name for domain, name in EXPANSIONS}
    assert set(EXPANDED_OPS) == names
    assert list(EXPANDED_OPS) == sorted(EXPANDED_OPS)
    assert set(EXPANDED_IF) == set(EXPANDED_OPS) & set(CORE_OPS)


def test_every_expanded_operator_has_a_case() -> None:
    # Those that need operators of newer sets or kernels stand with the core operators.
    others = (op_cases.cases, op_cases_kernels.cases)
    tested = {case.op for make in (*others, *GROUPS.values()) for case in make()}
    assert set(EXPANDED_OPS) <= tested


@pytest.mark.parametrize("group", GROUPS)
def test_expanded_operators_equal_the_reference(tmp_path: Path, group: str) -> None:
    cases = GROUPS[group]()
    opset = int(group.removeprefix("opset ")) if group.startswith("opset") else op_cases.OPSET
    model, arrays = op_cases.joined_model(cases, opset)
    onnx.save(model, tmp_path / "cases.onnx")
    np.savez(tmp_path / "vectors.npz", **{name: array[None] for name, array in arrays.items()})
    mlopsc.import_model(
        tmp_path / "cases.onnx", tmp_path / "cases.mlb", vectors=tmp_path / "vectors.npz"
    )
    assert read_bundle(tmp_path / "cases.mlb").manifest.origin.compared
    mlopsc.build(tmp_path / "cases.mlb", "host", tmp_path / "out")
    report = mlopsc.conform(tmp_path / "out" / "host", bundle=tmp_path / "cases.mlb")
    assert [o.name for o in report.outputs if o.first_differing is not None] == []
    assert len(report.outputs) == sum(case.outputs for case in cases)


def with_names(case: Case, *, unique: bool) -> Case:
    """Return ``case``, a classifier, with strings as labels, the first two equal or not."""
    given = dict(case.attributes)
    labels = next(given.pop(n) for n in ("classlabels_ints", "classlabels_int64s") if n in given)
    names = [f"class {label}" for label in labels] if unique else ["a", "a", "b", "c"]
    return replace(case, attributes={**given, "classlabels_strings": names[: len(labels)]})


@pytest.mark.parametrize("unique", [True, False])
def test_classifiers_give_the_strings_that_the_reference_gives(unique: bool) -> None:
    cases = [
        with_names(case, unique=unique)
        for case in (*op_cases_tabular.cases(), *op_cases_trees.cases())
        if case.op.endswith("Classifier") and case.label != "alone"  # one class has no second name
    ]
    assert len(cases) > 90
    model, arrays = op_cases.joined_model(cases)
    done = normalise(model, {})
    expected = run_graph(model.SerializeToString(), arrays)
    found = to_strings(run_graph(done.model, arrays), graph_signature(done.model)[1])
    for case in cases:
        assert found[f"{case.name}_o0"].tolist() == expected[f"{case.name}_o0"].tolist(), case.name
