"""``mlopsc run PACKAGE --input name=x.npy -o out.npz``."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import click

from mlopsc.cli.options import PATH, force_option, json_option, revocations_option, runner_option
from mlopsc.cli.render import echo_json, progress
from mlopsc.errors import InputError


@click.command("run")
@click.argument("package", type=PATH)
@click.option(
    "-i", "--input", "inputs", multiple=True, metavar="NAME=FILE.npy", help="One per input; repeat."
)
@click.option("-o", "--output", type=PATH, help="Write the outputs to this .npz.")
@click.option(
    "--profile",
    is_flag=True,
    help="Print instructions per kernel and stack, where measured.",
)
@click.option(
    "--threads", type=int, help="Threads that a call may use, 1 to 64; every processor by default."
)
@runner_option
@revocations_option
@force_option
@json_option
def command(
    package: Path,
    inputs: tuple[str, ...],
    output: Path | None,
    profile: bool,
    threads: int | None,
    runner: str | None,
    revocations: tuple[Path, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Run PACKAGE on your arrays, on whatever it was built for."""
    import numpy as np

    from mlopsc import pipeline
    from mlopsc.outputs import atomic_file, check_free

    if output is not None:
        check_free(output, force=force)
    pairs = [_read(text) for text in inputs]
    arrays = dict(pairs)
    if len(arrays) != len(pairs):
        raise InputError(f"an input is given twice: {[name for name, _ in pairs]}")
    with progress(f"running {package}", quiet=as_json):
        result = pipeline.run(
            package, arrays, runner=runner, count=profile, threads=threads, revocations=revocations
        )
    outputs = result.outputs[0]
    if output is not None:
        with atomic_file(output, force=force) as path:
            _write_npz(path, outputs)
    if as_json:
        echo_json(
            {
                "runner": result.runner,
                "instructions": result.instructions,
                "stack_bytes": result.stack_bytes,
                "profile": result.profile,
                "outputs": {k: v.tolist() for k, v in outputs.items()},
            }
        )
        return
    click.echo(f"ran with {result.runner}")
    for name, array in outputs.items():
        text = np.array2string(array, threshold=20, precision=6, separator=", ")
        kind = "string" if array.dtype == object else array.dtype.name
        click.echo(f"{name}: {kind}{list(array.shape)} = {text}")
    for symbol, count in result.profile.items():
        click.echo(f"{count:>14,}  {symbol}")
    if result.stack_bytes is not None:
        click.echo(f"{result.stack_bytes:>14,}  bytes of stack")


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays of any name; ``numpy.savez`` keeps some names for itself."""
    import numpy as np
    from numpy.lib import format as npy

    from mlopsc.dtypes import to_file

    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                plain = array.astype(np.str_) if array.dtype == object else to_file(array)
                npy.write_array(file, plain, allow_pickle=False)


def _read(text: str) -> tuple[str, Any]:
    import numpy as np

    name, separator, path = text.partition("=")
    if not separator:
        raise click.BadParameter(f"'{text}'; expected NAME=FILE.npy", param_hint="--input")
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a .npy"
        raise InputError(
            f"cannot read '{path}': {reason}; expected a .npy file of a plain array",
            hint="write one with numpy.save(path, array)",
        ) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"'{path}' holds several arrays; expected a .npy file with one")
    return name, array
