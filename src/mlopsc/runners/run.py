"""Chooses a runner for a package and runs it in a worker process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from mlopsc.dtypes import from_file, to_file
from mlopsc.errors import BrokenPackageError, InputError, MissingToolError
from mlopsc.loader import check_threads
from mlopsc.package_reader import LoadedPackage, read_package
from mlopsc.runners import emulator, native, qemu, wasm
from mlopsc.runners.base import Array, CallSite, Runner
from mlopsc.schema.common import TensorSpec
from mlopsc.schema.target import RunnerName, Target
from mlopsc.tools import RUN_TIMEOUT_S, run_worker

RUNNERS: Final[dict[RunnerName, Runner]] = {
    "native": cast(Runner, native),
    "unicorn": cast(Runner, emulator),
    "wasmtime": cast(Runner, wasm),
    "qemu": cast(Runner, qemu),
}


@dataclass(frozen=True)
class RunResult:
    """Outputs of a package and how they were made.

    Attributes:
        outputs: Per set of inputs, arrays by output name.
        runner: Name and version of the runner.
        instructions: Per inference (first set), or None.
        profile: Instructions by symbol.
        stack_bytes: Deepest stack of the call below its caller (first set), or None.
        sites: Instructions by the places where the model's driver calls, in order.
    """

    outputs: list[dict[str, Array]]
    runner: str
    instructions: int | None = None
    profile: dict[str, int] = field(default_factory=dict)
    stack_bytes: int | None = None
    sites: list[CallSite] = field(default_factory=list)


def choose_runner(target: Target, name: str | None = None) -> RunnerName:
    """Return the runner to use: ``name``, or the first of the target's list that is there.

    Raises:
        MissingToolError: The target does not know ``name``, or nothing it names is there.
    """
    known = target.run.runners
    if name is not None:
        if name not in known:
            raise MissingToolError(
                f"target '{target.name}' has no runner '{name}'; it has: {', '.join(known)}"
            )
        chosen = next(r for r in known if r == name)
        RUNNERS[chosen].describe(target)
        return chosen
    problems: list[MissingToolError] = []
    for candidate in known:
        try:
            RUNNERS[candidate].describe(target)
        except MissingToolError as error:
            problems.append(error)
        else:
            return candidate
    raise MissingToolError(
        f"no runner for target '{target.name}': " + "; ".join(p.message for p in problems),
        hint="; or ".join(p.hint for p in problems if p.hint),
    )


def run_package(
    package: LoadedPackage,
    inputs: Sequence[Mapping[str, Array]],
    *,
    runner: str | None = None,
    count: bool = False,
    threads: int | None = None,
    timeout: float = RUN_TIMEOUT_S,
) -> RunResult:
    """Run ``package`` on each set of inputs.

    Args:
        package: A verified package.
        inputs: Checked arrays by input name.
        runner: Which runner, or None for the target's preferred one.
        count: Whether instructions are counted and the stack is measured, where the runner can.
        threads: Number of threads a call may use; the library's default if None.
        timeout: Seconds until the run is stopped.

    Raises:
        MissingToolError: No runner is there.
        InputError: The package or the runner has not that many threads.
        BrokenPackageError: The library fails or crashes.
    """
    info = package.info
    chosen = choose_runner(info.target, runner)
    check_threads(threads, info.target)
    if threads not in (None, 1) and chosen != "native":
        raise InputError(
            f"threads={threads}: runner '{chosen}' computes on one thread",
            hint="leave it out: results do not depend on the number of threads",
        )
    with tempfile.TemporaryDirectory(prefix="mlopsc-run-") as name:
        folder = Path(name)
        _save(folder / "inputs.npz", inputs, info.inputs)
        reply: dict[str, Any] = run_worker(
            "mlopsc.runners.run:execute",
            {
                "package": str(package.path.resolve()),
                "runner": chosen,
                "folder": str(folder),
                "count": count,
                "threads": threads,
            },
            crash=BrokenPackageError,
            timeout=timeout,
        )
        outputs = _load(folder / "outputs.npz", len(inputs), info.outputs)
    sites = [CallSite(*site) for site in reply.pop("sites")]
    return RunResult(outputs, **reply, sites=sites)


def execute(
    *, package: str, runner: RunnerName, folder: str, count: bool, threads: int | None
) -> dict[str, Any]:
    """Run a package inside the worker process; arrays travel as files in ``folder``."""
    loaded = read_package(Path(package))
    work = Path(folder)
    with np.load(work / "inputs.npz", allow_pickle=False) as archive:
        number = int(archive["count"])
    inputs = _load(work / "inputs.npz", number, loaded.info.inputs)
    module = RUNNERS[runner]
    done = module.execute(loaded, inputs, count=count, threads=threads)
    _save(work / "outputs.npz", done.outputs, loaded.info.outputs)
    return {
        "runner": module.describe(loaded.info.target),
        "instructions": done.instructions,
        "profile": done.profile,
        "stack_bytes": done.stack_bytes,
        "sites": done.sites,
    }


def _save(path: Path, sets: Sequence[Mapping[str, Array]], specs: tuple[TensorSpec, ...]) -> None:
    arrays = {
        f"{i}_{k}": to_file(s[spec.name])
        for i, s in enumerate(sets)
        for k, spec in enumerate(specs)
    }
    np.savez(path, count=np.int64(len(sets)), **arrays)  # type: ignore[arg-type]


def _load(path: Path, count: int, specs: tuple[TensorSpec, ...]) -> list[dict[str, Array]]:
    with np.load(path, allow_pickle=False) as archive:
        return [
            {spec.name: from_file(archive[f"{i}_{k}"], spec.dtype) for k, spec in enumerate(specs)}
            for i in range(count)
        ]
