"""The tables of ``docs/coverage.md``: what ``docs/coverage.json`` records and what the tests run.

``benchmarks/onnx_suite.py --json docs/coverage.json`` writes the record. Operators, types and
targets beyond the suite come from the conformance cases, which pass on all of their targets or the
tests fail.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mlopsc.core_ops import CORE_OPS, EXPANDED_OPS

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "coverage.json"
ENGINE = "mlopsc"
DOMAINS = ("", "ai.onnx.ml")
# Differences that are known and meant, by test: what the comparison alone does not tell.
_ALIGNED = (
    "as ONNX Runtime, corners are aligned over the output's size; the suite expects them over the "
    "size times the scale, which is no whole number"
)
_ROUNDED = "2 of 192 elements are two steps of float16 apart: attention is computed in float32"
_EXACT = "the result is 0 where the suite expects a rounding error of 2e-7; ONNX Runtime fails too"
DEVIATIONS = {
    "test_attention_4d_causal_fp16": _ROUNDED,
    "test_attention_4d_causal_fp16_expanded": _ROUNDED,
    "test_dft_inverse": _EXACT,
    "test_dft_inverse_opset19": _EXACT,
    "test_loop16_seq_none": "ONNX's runner cannot compare scalars in a sequence",
    "test_resize_downsample_scales_cubic_align_corners": _ALIGNED,
    "test_resize_downsample_scales_linear_align_corners": _ALIGNED,
}
_ONNX_TYPES = {"float": "float32", "double": "float64"}


@cache
def record() -> dict[str, Any]:
    """Return the record of the suite."""
    loaded: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return loaded


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def kind(verdict: str) -> str:
    """Return ``pass``, ``bound``, ``refused``, ``wrong`` or ``crashed``."""
    return verdict.partition(":")[0]


def passes(verdict: str) -> bool:
    """Whether the test passes, with inputs bound or not."""
    return kind(verdict) in ("pass", "bound")


def totals() -> str:
    """Return how many tests each engine passes, by set."""
    columns = ["Set", "Tests", *record()["engines"].values()]
    rows = []
    for name, tests in record()["tests"].items():
        cells = [name, str(len(tests))]
        for engine in record()["engines"]:
            found = [kind(facts.get(engine, "")) for facts in tests.values()]
            bound = found.count("bound")
            wrong = found.count("wrong") + found.count("crashed")
            notes = [f"{bound} bound"] if bound else []
            notes += [f"{wrong} wrong"] if wrong else []
            passed = f"**{found.count('pass') + bound}**"
            cells.append(passed + (f" ({', '.join(notes)})" if notes else ""))
        rows.append(cells)
    return _table(columns, rows)


def _reason(test: str, verdict: str) -> str:
    """Return the reason without the names of one model, so that equal reasons are one line."""
    if not verdict:
        return "not run yet"
    if kind(verdict) == "wrong" and test in DEVIATIONS:
        return DEVIATIONS[test]
    text = verdict.partition(": ")[2]
    text = re.sub(r"^(UnsupportedOp|OpenShape|Source)Error: ", "", text)
    text = re.sub(r"node '[^']*' \(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"(tensor|input|output|value) '[^']*'", r"a \1", text)
    text = re.sub(r" \('[^']*'\)", "", text)
    text = re.sub(r"expected one of float32.*", "which cannot be compiled", text)
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : ", "", text)
    text = re.sub(r"Mismatched elements.*|\(known test=.*", "", text)
    return text.replace("|", "/").replace("<", "&lt;").strip() or kind(verdict)


def not_passed() -> str:
    """Return every test that does not pass, by reason."""
    parts = []
    for name, tests in record()["tests"].items():
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for test, facts in tests.items():
            verdict = facts.get(ENGINE, "")
            if not passes(verdict):
                groups[kind(verdict), _reason(test, verdict)].append(test.removeprefix("test_"))
        if not groups:
            parts.append(f"### {name}\n\nAll pass.\n")
            continue
        ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        rows = [
            [how, reason, str(len(found)), ", ".join(f"`{test}`" for test in found)]
            for (how, reason), found in ordered
        ]
        parts.append(
            f"### {name}\n\n" + _table(["Verdict", "Reason", "Count", "Tests (`test_...`)"], rows)
        )
    return "\n".join(parts)


@cache
def _tested() -> tuple[dict[str, set[str]], dict[str, set[str]], list[str]]:
    """Return the types of operators by name on all targets, and on the host, and the targets."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "conformance")]
    try:
        import test_core_ops
        import test_expanded_ops
    finally:
        del sys.path[:2]
    everywhere: dict[str, set[str]] = defaultdict(set)
    host: dict[str, set[str]] = defaultdict(set)
    for group in test_core_ops.GROUPS.values():
        for case in group.make():
            (host if group.hosted else everywhere)[case.op] |= _types_of(case.inputs)
    for make in test_expanded_ops.CASES.values():
        for case in make():
            host[case.op] |= _types_of(case.inputs)
    types = set(test_core_ops.TYPES)
    every = [where for where, runs in test_core_ops.WHERE.items() if types <= set(sum(runs, ()))]
    targets = [f"`{target}` ({generator})" for target, generator in every]
    others = [where for where in test_core_ops.WHERE if where not in every]
    targets[-1] += "; the cases of single operators, without the table of types, also on " + (
        ", ".join(f"`{target}` ({generator})" for target, generator in others)
    )
    return everywhere, host, targets


def _types_of(inputs: tuple[Any, ...]) -> set[str]:
    return {value.dtype.name for value in inputs if isinstance(value, np.ndarray)}


def _suite_types() -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """Return, by operator, the types and the verdicts of tests that hold only this operator."""
    types: dict[str, set[str]] = defaultdict(set)
    verdicts: dict[str, list[str]] = defaultdict(list)
    for facts in record()["tests"]["node"].values():
        if len(facts["ops"]) != 1:
            continue
        (op,) = facts["ops"]
        verdicts[op].append(facts.get(ENGINE, ""))
        if passes(facts.get(ENGINE, "")):
            types[op] |= {_ONNX_TYPES.get(name, name) for name in facts["types"]}
    return types, verdicts


def targets() -> str:
    """Return where the conformance cases run."""
    return ", ".join(_tested()[2]) + ".\n"


def operators() -> str:
    """Return what is known of every operator of ONNX."""
    everywhere, host, _ = _tested()
    suite, verdicts = _suite_types()
    rows = []
    for schema in sorted(onnx.defs.get_all_schemas(), key=lambda s: (s.domain, s.name)):
        if schema.domain not in DOMAINS or schema.deprecated:
            continue
        name = f"{schema.domain}::{schema.name}".removeprefix("::")
        found = verdicts.get(name, [])
        passed = sum(map(passes, found))
        tested = everywhere.get(name, set())
        more = (host.get(name, set()) | suite.get(name, set())) - tested
        rewritten = name in EXPANDED_OPS or passed or tested or more
        how = "core" if name in CORE_OPS else "rewritten" if rewritten else "no"
        count = f"{passed} of {len(found)}" if found else ""
        rows.append([f"`{name}`", how, ", ".join(sorted(tested)), ", ".join(sorted(more)), count])
    columns = ["Operator", "Compiled", "Types on all targets", "More types on `host`", "Suite"]
    return _table(columns, rows)


PARTS = {
    "totals": totals,
    "targets": targets,
    "operators": operators,
    "not passed": not_passed,
}
