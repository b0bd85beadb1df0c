"""Runs ONNX's own backend suite on mlopsc, ONNX Runtime and plain TVM, and prints the table.

Usage: ``python benchmarks/onnx_suite.py [--engine NAME] [--set NAME] [--match REGEX]
[--json FILE]``. ONNX's runner decides what passes; mlopsc's path is the real one: import, build for
``host``, load, run. Every engine runs in processes of its own, so that a crash or a hang is the
verdict on one test.

Verdicts: *pass*; *bound* (passes after inputs that decide shapes or are strings were bound at
compile time); *refused* (an error says why not); *wrong* (runs, but the outputs differ);
*crashed*. With ``--json FILE`` verdicts are merged into FILE, which ``docs/coverage.md`` is
generated from.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import unittest
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import click
import onnx
import onnx.backend.test.loader as loader
import onnx.backend.test.runner as runner
from onnx.backend.base import Backend
from suite_engines import ENGINES

from mlopsc.cli.render import echo_table

# Name of a set: kind in ONNX's loader, class of its runner.
SETS: Final = {
    "node": ("node", "OnnxBackendNodeModelTest"),
    "light": ("real", "OnnxBackendRealModelTest"),
    "simple": ("simple", "OnnxBackendSimpleModelTest"),
    "pytorch-converted": ("pytorch-converted", "OnnxBackendPyTorchConvertedModelTest"),
    "pytorch-operator": ("pytorch-operator", "OnnxBackendPyTorchOperatorModelTest"),
}
VERDICTS: Final = ("pass", "bound", "refused", "wrong", "crashed")
REASON = 160  # characters of one that are kept


@dataclass(frozen=True, order=True)
class Test:
    """One test of the suite."""

    set: str
    name: str


def all_tests() -> dict[Test, runner.TestCase]:
    """Return the suite's tests, the sets in their order and each by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, while inputs are made
        return {
            Test(name, case.name): case
            for name, (kind, _) in SETS.items()
            for case in sorted(loader.load_model_tests(kind=kind), key=lambda c: c.name)
        }


def model_of(case: runner.TestCase) -> onnx.ModelProto:
    """Return a test's model."""
    if case.model is not None:
        return case.model
    if case.model_dir is not None:
        return onnx.load(Path(case.model_dir) / "model.onnx")
    return onnx.load(Path(onnx.__file__).parent.parent / case.url)


def facts_of(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return the operators of a model and the element types of its inputs and outputs."""
    nodes = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    own = {(f.domain, f.name) for f in model.functions}
    ops = {f"{n.domain}::{n.op_type}" for n in nodes if (n.domain, n.op_type) not in own}
    types = {name for value in (*model.graph.input, *model.graph.output)
             for name in _type_names(value.type)}  # fmt: skip
    return {"ops": sorted(op.removeprefix("::").removeprefix("ai.onnx::") for op in ops),
            "types": sorted(types)}  # fmt: skip


def _type_names(kind: onnx.TypeProto) -> Iterator[str]:
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        yield which.removesuffix("_type")
        yield from _type_names(getattr(kind, which).elem_type)
    elif which == "tensor_type":
        yield onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type).lower()
    elif which is not None:
        yield which.removesuffix("_type")


class Judge:
    """Runs tests on one engine with ONNX's runner, in this process."""

    def __init__(self, backend: type[Backend]) -> None:
        """Watch what ``backend`` does: the runner tells only whether a test passes."""
        judge = self
        self._compared = False
        self._bound: tuple[str, ...] = ()

        class Watched:
            def __init__(self, rep: Any) -> None:
                self._rep = rep

            def run(self, inputs: Any, **kwargs: Any) -> Any:
                judge._compared = False
                outputs = self._rep.run(inputs, **kwargs)
                judge._compared = True
                judge._bound = tuple(getattr(self._rep, "bound_inputs", ()))
                return outputs

        class Watching(backend):  # type: ignore[valid-type, misc]
            @classmethod
            def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> Any:
                return Watched(super().prepare(model, device, **kwargs))

            @classmethod
            def is_compatible(cls, model: onnx.ModelProto, *args: Any, **kwargs: Any) -> bool:
                return True  # let it say why not

        self._cases = runner.Runner(Watching).test_cases

    def verdict(self, test: Test) -> str:
        """Return the verdict and, if it is no pass, ``: `` and the reason in one line."""
        self._compared, self._bound = False, ()
        try:
            self._cases[SETS[test.set][1]](f"{test.name}_cpu").debug()
        except (Exception, unittest.SkipTest) as error:
            return _one_line("wrong" if self._compared else "refused", error)
        return f"bound: {', '.join(self._bound)}" if self._bound else "pass"


def _one_line(verdict: str, error: BaseException) -> str:
    text = " ".join(str(error).split())
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return f"{verdict}: {kind}{text}"[:REASON].rstrip(": ")


def _serve(engine: str, pipe: Connection) -> None:
    """Answer one test after the other until the pipe closes. Output of engines is not ours."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    warnings.simplefilter("ignore")
    judge = Judge(ENGINES[engine][0]())
    while True:
        try:
            test = pipe.recv()
        except EOFError:
            return
        pipe.send(judge.verdict(test))


class _Worker:
    """A process that judges tests on one engine; replaced when it dies or hangs."""

    _fork = multiprocessing.get_context("fork")  # the loaded tests are shared

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.test: Test | None = None
        self._start()

    def _start(self) -> None:
        self.pipe, theirs = self._fork.Pipe()
        self._process = self._fork.Process(target=_serve, args=(self._engine, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def give(self, test: Test, limit: float) -> None:
        self.test, self._until = test, time.monotonic() + limit
        self.pipe.send(test)

    def take(self) -> str | None:
        """Return the verdict, or None if there is none yet."""
        if self.pipe.poll():
            try:
                return str(self.pipe.recv())
            except (EOFError, OSError):
                self.stop()
                code = self._process.exitcode
                self._start()
                return f"crashed: the process ended with status {code}"
        if time.monotonic() > self._until:
            self.stop()
            self._start()
            return "crashed: took too long"
        return None

    def stop(self) -> None:
        self.pipe.close()
        self._process.join(1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def judge_all(
    engine: str, tests: list[Test], jobs: int, limit: float
) -> Iterator[tuple[Test, str]]:
    """Yield each test with its verdict, as they come."""
    waiting = tests[::-1]
    workers = [_Worker(engine) for _ in range(min(jobs, len(tests)))]
    try:
        for worker in workers:
            worker.give(waiting.pop(), limit)
        while busy := [w for w in workers if w.test is not None]:
            wait([w.pipe for w in busy], timeout=1)
            for worker in busy:
                verdict = worker.take()
                if verdict is not None and worker.test is not None:
                    yield worker.test, verdict
                    worker.test = None
                    if waiting:
                        worker.give(waiting.pop(), limit)
    finally:
        for worker in workers:
            worker.stop()


# The file: version of ONNX, title of each engine, and by set and name of test its operators, its
# types and the verdict of each engine.
Record = dict[str, Any]


def read_record(path: Path | None) -> Record:
    """Return what ``path`` holds, or an empty record if it is not of this version of ONNX."""
    if path is not None and path.is_file():
        record: Record = json.loads(path.read_text(encoding="utf-8"))
        if record["onnx"] == onnx.__version__:
            return record
    return {"onnx": onnx.__version__, "engines": {}, "tests": {name: {} for name in SETS}}


def write_record(record: Record, path: Path) -> None:
    """Write ``record``, one test a line."""
    lines = ["{", f' "onnx": {json.dumps(record["onnx"])},']
    lines += [f' "engines": {json.dumps(record["engines"], sort_keys=True)},', ' "tests": {']
    sets = []
    for name in SETS:
        tests = sorted(record["tests"][name].items())
        rows = [f"   {json.dumps(test)}: {json.dumps(facts)}" for test, facts in tests]
        sets.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n  }")
    text = "\n".join([*lines, ",\n".join(sets), " }", "}"]) + "\n"
    partial = path.with_suffix(".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def summary(record: Record, set_name: str) -> list[list[str]]:
    """Return the table's rows for one set: engine, passed, bound, refused, wrong, crashed."""
    rows = []
    for engine, title in record["engines"].items():
        found = [
            verdicts[engine].partition(":")[0]
            for verdicts in record["tests"][set_name].values()
            if engine in verdicts
        ]
        if found:
            counts = [str(found.count(verdict)) for verdict in VERDICTS]
            rows.append([title, f"{found.count('pass') + found.count('bound')}", *counts[1:]])
    return rows


COLUMNS: Final = ["engine", "passed", "of these bound", "refused", "wrong", "crashed"]


@click.command()
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)),
              help="Which; all by default.")  # fmt: skip
@click.option("--set", "sets", multiple=True, type=click.Choice(list(SETS)),
              help="Which; all by default.")  # fmt: skip
@click.option("--match", default="", metavar="REGEX", help="Only tests whose name matches.")
@click.option("--only", type=click.Choice(["all", "missing", "failing"]), default="all",
              help="Tests without a verdict in FILE, or that do not pass there.")  # fmt: skip
@click.option("--jobs", default=os.cpu_count() or 1, show_default="one per processor")
@click.option("--limit", default=300.0, show_default=True, help="Seconds for one test.")
@click.option("--json", "path", type=click.Path(path_type=Path), metavar="FILE",
              help="Merge the verdicts into this file.")  # fmt: skip
@click.option("--list", "listing", is_flag=True, help="Name every test that does not pass.")
def main(
    engines: tuple[str, ...], sets: tuple[str, ...], match: str, only: str, jobs: int,
    limit: float, path: Path | None, listing: bool,
) -> None:  # fmt: skip
    """Run the suite and print how many tests end how."""
    cases = all_tests()
    chosen = [t for t in cases if t.set in (sets or SETS) and re.search(match, t.name)]
    record = read_record(path)
    for test in chosen:
        record["tests"][test.set].setdefault(test.name, {}).update(facts_of(model_of(cases[test])))
    with tempfile.TemporaryDirectory(prefix="mlopsc-suite-") as folder:
        os.environ["ONNX_MODELS"] = folder  # where ONNX's runner puts inputs it makes
        for engine in engines or ENGINES:
            record["engines"][engine] = ENGINES[engine][1]()
            tests = [t for t in chosen if _wanted(record, engine, t, only)]
            start = saved = time.monotonic()
            for count, (test, verdict) in enumerate(judge_all(engine, tests, jobs, limit), 1):
                record["tests"][test.set][test.name][engine] = verdict
                if listing and verdict.partition(":")[0] not in ("pass", "bound"):
                    click.echo(f"{engine}: {test.name}: {verdict}")
                now = time.monotonic()
                if now - saved > 10 or count == len(tests):
                    saved = now
                    if path is not None:
                        write_record(record, path)
                    click.echo(f"{engine}: {count}/{len(tests)}, {now - start:.0f} s", err=True)
    for name in sets or SETS:
        if rows := summary(record, name):
            total = sum(1 for test in cases if test.set == name)
            echo_table(f"\nONNX {onnx.__version__}, {name}: {total} tests", COLUMNS, rows)


def _wanted(record: Record, engine: str, test: Test, only: str) -> bool:
    verdict = record["tests"][test.set].get(test.name, {}).get(engine, "")
    if only == "missing":
        return not verdict
    return only == "all" or verdict.partition(":")[0] not in ("pass", "bound")


if __name__ == "__main__":
    sys.exit(main())
