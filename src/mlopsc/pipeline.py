"""The order of the stages. Nothing else knows it.

``import_model`` → bundle; ``check_model`` → verdict; ``build`` → packages, one per target;
``conform`` → report; ``run`` → outputs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlopsc import import_worker
from mlopsc.bundle import Bundle, is_bundle, read_bundle
from mlopsc.conformance import conform_package
from mlopsc.errors import InputError, LimitError, MlopscError, OutputError, SourceError
from mlopsc.importer import ImportOptions, OperatorUse
from mlopsc.labels import to_strings
from mlopsc.loader import check_inputs
from mlopsc.outputs import atomic_file, atomic_folders, check_folder, check_free
from mlopsc.package import CompiledModel, check_limits, make_package
from mlopsc.package_reader import REPORT_FILE, read_package
from mlopsc.runners import TIMEOUT_S, RunResult, run_package
from mlopsc.schema.conformance import ConformanceReport
from mlopsc.schema.package import Package
from mlopsc.schema.program import PROGRAM_FILE, WEIGHTS_FILE, Program
from mlopsc.schema.target import Accuracy, Generator, Schedule, Target
from mlopsc.targets import load_target
from mlopsc.tools import run_worker

BUNDLE_SUFFIX = ".mlb"
MAX_WEIGHTS = (1 << 31) - (1 << 26)  # of a library: code beside the weights must reach their ends
Progress = Callable[[str, str], None]  # target, what is being done


@dataclass(frozen=True)
class Verdict:
    """What an import would say of a model.

    Attributes:
        problems: Why it is refused; empty if it is not.
        inputs: Names, types and shapes of the raw inputs, if it is accepted.
        outputs: The same of the outputs.
        operators: What its normal form consists of.
    """

    problems: tuple[MlopscError, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    operators: tuple[OperatorUse, ...] = ()


def import_model(
    source: Path,
    output: Path,
    options: ImportOptions,
    *,
    force: bool = False,
    timeout: float = import_worker.TIMEOUT_S,
) -> Bundle:
    """Import ``source`` and write the bundle to ``output``; stop after ``timeout`` seconds.

    Raises:
        MlopscError: See ``mlopsc.errors``; nothing is written then.
    """
    with atomic_file(output, force=force) as path:
        _import(source, path, options, shown=output, timeout=timeout)
        return read_bundle(path)


def check_model(
    source: Path, options: ImportOptions, *, timeout: float = import_worker.TIMEOUT_S
) -> Verdict:
    """Return what an import of ``source`` would say, all problems at once; write nothing."""
    try:
        reply = _run_import("check_file", source, options, timeout)
    except MlopscError as error:
        return Verdict(problems=(error, *error.also))
    return Verdict(
        inputs=tuple(reply["inputs"]),
        outputs=tuple(reply["outputs"]),
        operators=tuple(
            OperatorUse(use["op"], use["nodes"], tuple(use["types"])) for use in reply["operators"]
        ),
    )


def _import(
    source: Path,
    output: Path,
    options: ImportOptions,
    *,
    shown: Path,
    timeout: float = import_worker.TIMEOUT_S,
) -> None:
    names = {"output": str(output.resolve()), "shown": str(shown)}
    _run_import("import_file", source, options, timeout, **names)


def _run_import(
    function: str, source: Path, options: ImportOptions, timeout: float, **arguments: str
) -> Any:
    return run_worker(
        f"mlopsc.import_worker:{function}",
        {
            "source": str(source),
            "options": {
                name: str(value) if isinstance(value, Path) else value
                for name, value in vars(options).items()
            },
            **arguments,
        },
        crash=SourceError,
        label=f"the import of '{source}'",
        timeout=timeout,
        memory=import_worker.memory_limit(source, options),
    )


def build(
    source: Path,
    targets: Sequence[str],
    output: Path,
    *,
    options: ImportOptions | None = None,
    generator: Generator | None = None,
    schedule: Schedule = "tiled",
    accuracy: Accuracy = "fast",
    source_code: bool = False,
    force: bool = False,
    progress: Progress = lambda target, what: None,
) -> dict[str, Package]:
    """Build one package per target, as ``output/<target>``; all appear or none.

    Args:
        source: A bundle, or an ONNX file that is imported first.
        targets: Names or paths of target files.
        output: Folder for the package folders; may exist.
        options: How to import, if ``source`` is not a bundle.
        generator: Kernel generator; each target's own by default.
        schedule: ``none`` leaves loops unscheduled.
        accuracy: ``strict`` forbids algorithms that trade accuracy for speed.
        source_code: Whether generated C is delivered too.
        force: Replace packages that exist.
        progress: Called with the target and the step that begins.

    Raises:
        MlopscError: See ``mlopsc.errors``; no package is written then.
    """
    loaded = [load_target(name) for name in targets]
    names = [t.name for t in loaded]
    if not loaded or len(set(names)) != len(names):
        raise InputError(f"targets are {names}; expected at least one, each once")
    check_folder(output)
    for target in loaded:
        check_free(output / target.name, force=force)
    with tempfile.TemporaryDirectory(prefix="mlopsc-build-") as name:
        bundle, path = _open(source, options, Path(name))
        for target in loaded:
            _check_weights(bundle, target)

        def compile_one(target: Target) -> CompiledModel:
            progress(target.name, "compiling")
            return _compile(path, target, Path(name), generator, schedule, accuracy)

        with ThreadPoolExecutor(max_workers=max(1, min(len(loaded), os.cpu_count() or 1))) as pool:
            compiled = list(pool.map(compile_one, loaded))
        return _package_all(compiled, bundle, loaded, output, source_code, force, progress)


def _open(source: Path, options: ImportOptions | None, work: Path) -> tuple[Bundle, Path]:
    if is_bundle(source):
        if options is not None and options != ImportOptions():
            raise InputError(
                f"'{source}' is a bundle: import options do not apply to it",
                hint="give them to 'mlopsc import'",
            )
        return read_bundle(source), source
    path = work / f"model{BUNDLE_SUFFIX}"
    _import(source, path, options or ImportOptions(), shown=path)
    return read_bundle(path), path


def _check_weights(bundle: Bundle, target: Target) -> None:
    """Refuse, before compiling, a model whose weights alone exceed the target, or any library."""
    size = sum(len(w.data) for stage in bundle.stages for w in stage.weights.values())
    if size > MAX_WEIGHTS:
        raise LimitError(
            f"model '{bundle.manifest.name}' has {size} bytes of weights; a library holds at most "
            f"{MAX_WEIGHTS}, which 32-bit offsets reach",
            hint="quantise the model or split it; a bundle may be of any size",
        )
    check_limits(
        target,
        flash=sum(stage.parameters for stage in bundle.manifest.stages),
        ram=sum(s.nbytes for s in (*bundle.manifest.inputs, *bundle.manifest.outputs)),
        what=f"model '{bundle.manifest.name}' (weights, inputs and outputs alone)",
    )


def _compile(
    bundle: Path,
    target: Target,
    work: Path,
    generator: Generator | None,
    schedule: Schedule,
    accuracy: Accuracy,
) -> CompiledModel:
    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=work))
    reply: dict[str, Any] = run_worker(
        "mlopsc.compile_worker:compile_model",
        {
            "bundle": str(bundle.resolve()),
            "target": target.model_dump(mode="json"),
            "generator": generator or target.compile.generator,
            "schedule": schedule,
            "accuracy": accuracy,
            "folder": str(folder),
        },
    )
    return CompiledModel(
        program=Program.from_file(folder / PROGRAM_FILE),
        weights=(folder / WEIGHTS_FILE).read_bytes(),
        kernels=folder / reply["kernels"],
        tvm_version=reply["tvm"],
    )


def _package_all(
    compiled: Sequence[CompiledModel],
    bundle: Bundle,
    targets: Sequence[Target],
    output: Path,
    source_code: bool,
    force: bool,
    progress: Progress,
) -> dict[str, Package]:
    """Fill all packages beside each other, then move them into place together."""
    packages: dict[str, Package] = {}
    with atomic_folders(output, [target.name for target in targets], force=force) as work:
        for model, target in zip(compiled, targets, strict=True):
            progress(target.name, "packaging")
            packages[target.name] = make_package(
                model, bundle, target, work / target.name, source=source_code
            )
            progress(target.name, "done")
    return packages


def conform(
    package: Path,
    *,
    bundle: Path | None = None,
    runner: str | None = None,
    write: bool = True,
    timeout: float = TIMEOUT_S,
) -> ConformanceReport:
    """Judge the package in folder ``package`` and write its ``conformance.json``.

    Raises:
        MissingToolError, BrokenPackageError: It cannot be judged; a report from before is removed.
    """
    report_path = package / REPORT_FILE
    read_package(package, verify=False)  # before anything is removed from what may be no package
    if write:
        try:
            report_path.unlink(missing_ok=True)  # a verdict of the past must not outlive a failure
        except OSError as error:
            raise OutputError(f"cannot write '{report_path}': {error.strerror}") from error
    loaded = read_package(package)
    opened = read_bundle(bundle) if bundle is not None else None
    report = conform_package(loaded, bundle=opened, runner=runner, timeout=timeout)
    if write:
        with atomic_file(report_path, force=True) as path:
            path.write_text(report.to_json(), encoding="utf-8")
    return report


def run(
    package: Path,
    inputs: Mapping[str, Any],
    *,
    runner: str | None = None,
    count: bool = False,
    threads: int | None = None,
) -> RunResult:
    """Run the package in folder ``package`` once on ``inputs``, on whatever it was built for.

    Outputs that have labels are arrays of ``str`` (dtype object).

    Raises:
        InputError: The inputs or the number of threads do not fit.
        MissingToolError, BrokenPackageError: It cannot be run.
    """
    loaded = read_package(package)
    arrays = check_inputs(inputs, loaded.info.inputs)
    result = run_package(loaded, [arrays], runner=runner, count=count, threads=threads)
    return replace(result, outputs=[to_strings(o, loaded.info.outputs) for o in result.outputs])
