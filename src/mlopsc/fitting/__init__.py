"""Whether a model fits a board, before anything is flashed.

Takes a package, or a model that is built for the board without regard to its limits; gives a
``FitReport``. Always holds: what is called measured was measured on the library that ships; what is
an estimate says so and names its assumptions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlopsc import pipeline
from mlopsc.errors import BrokenPackageError, InputError, LimitError
from mlopsc.fitting.layers import uses_of
from mlopsc.fitting.measure import measure_run
from mlopsc.package.limits import (
    ARENA_LIMIT,
    MEMORY,
    Needs,
    advise,
    judge_boards,
    milliseconds,
    missing_bytes,
    same_machine,
)
from mlopsc.package.linked import measure_static
from mlopsc.package_reader import LoadedPackage, read_package
from mlopsc.runners import RunResult
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.fit import Advice, FitReport, Largest, Latency, RamUse
from mlopsc.schema.import_options import ImportOptions
from mlopsc.schema.target import Target
from mlopsc.schema.timeline import Timeline
from mlopsc.targets import load_target
from mlopsc.tools import RUN_TIMEOUT_S
from mlopsc.trust.policy import TrustOptions, refuse_revoked

_DEFAULTS = BuildOptions()
_NOBODY = TrustOptions()


@dataclass(frozen=True)
class Measuring:
    """How a package is measured.

    Attributes:
        runner: Who runs it; the target's first runner by default.
        timeout: Seconds until the run is stopped.
        must_run: Whether a package that fails to run is an error, not a note.
    """

    runner: str | None = None
    timeout: float = RUN_TIMEOUT_S
    must_run: bool = True


def fit(
    source: Path,
    target: str | None = None,
    *,
    options: ImportOptions | None = None,
    how: BuildOptions = _DEFAULTS,
    trust: TrustOptions = _NOBODY,
    measuring: Measuring | None = None,
    cache: bool = True,
    progress: pipeline.Progress = lambda target, what: None,
) -> FitReport:
    """Say whether ``source`` fits a target.

    Args:
        source: A package folder, a bundle, or an ONNX file.
        target: Name or path of the target; of a package, its own by default. A package can only be
            judged for targets that run the same build.
        options: How to import, if ``source`` is an ONNX file.
        how: How to build, if ``source`` is no package.
        trust: Whom to believe.
        measuring: How to measure.
        cache: Whether what was built before may come from the cache, and is kept there.
        progress: Called with the target and the step that begins.

    Raises:
        MlopscError: See ``mlopsc.errors``; that it does not fit is a verdict, not an error.
    """
    measuring = measuring or Measuring()
    if source.is_dir():
        if how != _DEFAULTS or options not in (None, ImportOptions()):
            raise InputError(
                f"'{source}' is a package: options of imports and builds do not apply to it",
                hint="give the bundle, or leave them out",
            )
        package = read_package(source)
        refuse_revoked(package, trust.revocations)
        board = package.info.target if target is None else load_target(target)
        if not same_machine(board, package.info.target):
            raise InputError(
                f"'{source}' was built for '{package.info.target.name}', which is another machine "
                f"than '{board.name}'",
                hint=f"give the bundle: 'mlopsc fit MODEL.mlb --target {board.name}'",
            )
        progress(board.name, "measuring")
        return judge(package, board, measuring)
    if target is None:
        raise InputError("no target is given", hint="choose one with '--target'")
    board = load_target(target)

    def build_and_judge(how: BuildOptions) -> FitReport:
        with tempfile.TemporaryDirectory(prefix="mlopsc-fit-") as name:
            folder = Path(name)
            pipeline.build_for(
                source,
                [board],
                folder,
                options=options,
                how=how,
                trust=trust,
                cache=cache,
                logged=False,
                within_limits=False,
                progress=progress,
            )
            progress(board.name, "measuring")
            return judge(read_package(folder / board.name), board, measuring)

    report = build_and_judge(how)
    if "ram" in report.missing and how.arena_limit is None and how.patches is None:
        room = max(0, report.ram.arena - report.missing["ram"])
        with suppress(LimitError):  # patch by patch it may be enough
            return _with_limit(
                report, build_and_judge(how.model_copy(update={"arena_limit": room}))
            )
    return report


def _with_limit(report: FitReport, limited: FitReport) -> FitReport:
    """Return ``report`` with the advice to limit the arena, which made ``limited``, if it helps."""
    if "ram" in limited.missing:
        return report
    counted = "" if limited.instructions is None else f" and {limited.instructions:,} instructions"
    measured = Advice(
        what=f"build with '{ARENA_LIMIT} {limited.ram.arena}': the first layers are computed patch "
        f"by patch, which takes {limited.ram.total} bytes of RAM, {limited.flash.total} of flash"
        f"{counted}, measured",
        memory="ram",
        saves=report.ram.total - limited.ram.total,
        enough=True,
        option=ARENA_LIMIT,
    )
    others = [advice for advice in report.advice if advice.option != ARENA_LIMIT]
    return report.model_copy(update={"advice": (measured, *others)})


def judge(package: LoadedPackage, target: Target, measuring: Measuring | None = None) -> FitReport:
    """Measure a verified package and judge it by the limits of ``target``, which can run it.

    Raises:
        BrokenPackageError: The library fails.
        MissingToolError: The runner that was asked for is not there.
    """
    info, memory = package.info, package.info.memory
    measuring = measuring or Measuring()
    static = measure_static(package, target.limits.flash_bytes)
    run, reason = None, ""
    try:
        run, reason = measure_run(package, measuring.runner, measuring.timeout)
    except BrokenPackageError as error:
        known = Needs(static.flash.total, memory.arena + memory.io + static.writable)
        if measuring.must_run and not missing_bytes(target, known):
            raise  # otherwise it may be too large for the emulated board, too
        reason = error.message
    ram = RamUse(
        arena=memory.arena,
        io=memory.io,
        stack=None if run is None else run.stack_bytes,
        writable=static.writable,
        limit=target.limits.ram_bytes,
    )
    needs = Needs(static.flash.total, ram.total, memory.arena, memory.io, info.timeline)
    missing = missing_bytes(target, needs)
    limited = target.limits.flash_bytes is not None or target.limits.ram_bytes is not None
    instructions = None if run is None else run.instructions
    layers = uses_of(info.timeline, [] if run is None else run.sites)
    return FitReport(
        model=info.name,
        version=info.version,
        target=target.name,
        verdict="does not fit" if missing else "fits" if limited else "no limits",
        missing=dict(missing),
        flash=static.flash,
        ram=ram,
        runner=None if run is None else run.runner,
        instructions=instructions,
        macs=sum(layer.macs for layer in layers),
        latency=_latency(target, instructions),
        largest=Largest(
            ram=_largest([layer.ram for layer in layers]),
            weights=_largest([layer.weights for layer in layers]),
            instructions=_largest([layer.instructions or 0 for layer in layers]),
        ),
        layers=layers,
        blocks=info.timeline.blocks,
        advice=advise(target, needs),
        boards=judge_boards(target, needs, instructions),
        notes=tuple(_notes(target, run, reason, info.timeline)),
    )


def require_fit(report: FitReport) -> None:
    """Raise what says that the model does not fit, if it does not.

    Raises:
        LimitError: With the bytes that are missing and what to change.
    """
    if report.verdict != "does not fit":
        return
    lacks = " and ".join(f"{size} bytes of {MEMORY[kind]}" for kind, size in report.missing.items())
    raise LimitError(
        f"model '{report.model}' does not fit target '{report.target}': {lacks} are missing",
        hint="; or ".join(advice.what for advice in report.advice),
    )


def _latency(target: Target, instructions: int | None) -> Latency | None:
    time = milliseconds(target, instructions)
    clock, cycles = target.hardware.clock_hz, target.hardware.cycles_per_instruction
    if time is None or clock is None or cycles is None:
        return None
    return Latency(
        milliseconds=time,
        clock_hz=clock,
        cycles_per_instruction=cycles,
        assumptions=(
            f"{cycles:g} cycles per instruction on average, from the target file",
            f"a clock of {clock / 1e6:g} MHz, the highest of the data sheet",
            "no wait states beyond those in that average: weights in slow flash cost more",
            "the first test vector: models with loops or conditionals may take longer on others",
        ),
    )


def _largest(sizes: Sequence[int]) -> int | None:
    """Return the place of the largest number, or None if all are 0."""
    return max(range(len(sizes)), key=lambda i: sizes[i]) if any(sizes) else None


def _notes(target: Target, run: RunResult | None, reason: str, timeline: Timeline) -> list[str]:
    notes = []
    if run is None:
        notes.append(f"nothing was run: {reason}; the stack and instructions are not known")
    else:
        if run.instructions is None:
            notes.append(f"{run.runner} does not count instructions")
        if run.stack_bytes is None:
            notes.append(f"{run.runner} does not measure the stack: RAM is without it")
    if run is not None and run.instructions is not None:
        for name in ("clock_hz", "cycles_per_instruction"):
            if getattr(target.hardware, name) is None:
                notes.append(f"no latency: target '{target.name}' does not say its {name}")
    if not timeline.layers:
        notes.append("the package is of a version that did not describe its layers")
    return notes
