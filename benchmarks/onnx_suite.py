"""Counts the tests of ONNX's own backend suite that pass, through ``mlopsc.backend``.

Usage: ``python benchmarks/onnx_suite.py [--match REGEX] [--jobs N] [--json FILE]``. The path is the
real one: every model is imported, built for ``host``, loaded and compared. A test counts as *bound*
if an input that decides shapes was bound at compile time; whatever does not pass is listed with the
kind of error.
"""

from __future__ import annotations

import collections
import json
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import onnx.backend.test.loader as loader
import onnx.backend.test.runner as runner

import mlopsc.backend
from mlopsc.cli.render import echo_table


def judge(case: runner.TestCase) -> tuple[str, str]:
    """Return the verdict on one test and, if it does not pass, the reason in one line."""
    try:
        model = mlopsc.backend.prepare(case.model)
        for inputs, expected in case.data_sets:
            for got, want in zip(model.run(list(inputs)), expected, strict=True):
                if isinstance(want, list):
                    return "wrong", "a sequence is expected"
                if (got.dtype, got.shape) != (want.dtype, want.shape):
                    return "wrong", f"{got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
                np.testing.assert_allclose(got, want, rtol=case.rtol, atol=case.atol)
    except AssertionError as error:
        return "wrong", " ".join(str(error).split())[:200]
    except Exception as error:  # every kind of refusal is a result here
        return type(error).__name__, " ".join(str(error).split())[:200]
    return ("bound" if model.bound_inputs else "pass"), ""


@click.command()
@click.option("--match", default="", help="Only tests whose name matches.")
@click.option("--jobs", default=2, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write every verdict here.")
def main(match: str, jobs: int, output: Path | None) -> None:
    """Run the node tests and print how many end how."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [c for c in loader.load_model_tests(kind="node") if re.search(match, c.name)]
    with ThreadPoolExecutor(jobs) as pool:
        verdicts = dict(zip([c.name for c in cases], pool.map(judge, cases), strict=True))
    counts = collections.Counter(verdict for verdict, _ in verdicts.values())
    rows = [[verdict, str(count)] for verdict, count in counts.most_common()]
    echo_table(f"ONNX node tests: {len(cases)}", ["verdict", "tests"], rows)
    for name, (verdict, reason) in verdicts.items():
        if verdict == "wrong":
            click.echo(f"wrong: {name}: {reason}")
    if output is not None:
        output.write_text(json.dumps(verdicts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
