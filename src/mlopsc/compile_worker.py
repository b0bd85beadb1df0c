"""The part of a build that runs in a worker process: lower, then generate.

TVM can crash its process; the pipeline calls ``compile_model`` through ``tools.run_worker`` and
reads what it left in the job's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlopsc.bundle import read_bundle
from mlopsc.codegen import generate
from mlopsc.errors import BrokenBundleError, CompilerError, MlopscError
from mlopsc.lower import lower
from mlopsc.schema.program import PROGRAM_FILE, WEIGHTS_FILE
from mlopsc.schema.target import Accuracy, Generator, Schedule, Target


def compile_model(
    *,
    bundle: str,
    digest: str,
    target: dict[str, Any],
    generator: Generator,
    schedule: Schedule,
    accuracy: Accuracy,
    io_in_arena: bool,
    patches: int | None,
    arena_limit: int | None,
    folder: str,
) -> dict[str, str]:
    """Lower a bundle and write program, weights and kernels into ``folder``.

    Args:
        bundle: Path.
        digest: What it must have.
        target: What to compile for.
        generator: Of the kernels.
        schedule: ``none`` leaves loops unscheduled.
        accuracy: ``strict`` forbids algorithms that trade accuracy for speed.
        io_in_arena: Whether inputs and outputs lie in the arena.
        patches: Number of patches in which the first layers are computed, if it is chosen.
        arena_limit: Bytes that the arena may take, if it is chosen.
        folder: Where to write.

    Returns:
        The name of the file with the kernels, and the compiler's version.

    Raises:
        BrokenBundleError: The bundle is another one.
        CompilerError: The model cannot be compiled for this target.
    """
    import tvm

    loaded = read_bundle(Path(bundle))
    if loaded.digest != digest:
        raise BrokenBundleError(f"'{bundle}' was replaced while it was being built")
    work = Path(folder)
    try:
        module = lower(
            loaded.manifest.name,
            loaded.stages,
            Target.model_validate(target),
            generator=generator,
            schedule=schedule,
            accuracy=accuracy,
            io_in_arena=io_in_arena,
            patches=patches,
            arena_limit=arena_limit,
        )
        kernels = generate(generator, module.kernels, module.target, work)
    except MlopscError:
        raise
    except Exception as error:  # any other exception of the compiler is a failure to compile
        text = " ".join(str(error).split())
        raise CompilerError(
            f"the compiler failed on model '{loaded.manifest.name}' for target "
            f"'{target['name']}': {type(error).__name__}: {text[:500]}",
            hint="try '--schedule none' or another '--generator', and report the model",
        ) from error
    (work / WEIGHTS_FILE).write_bytes(module.weights)
    (work / PROGRAM_FILE).write_text(module.program.to_json(), encoding="utf-8")
    return {"kernels": kernels.name, "tvm": str(tvm.__version__)}
