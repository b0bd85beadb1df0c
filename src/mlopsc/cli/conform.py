"""``mlopsc conform PACKAGE...``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import (
    PATH,
    json_option,
    revocations_option,
    runner_option,
    timeout_option,
)
from mlopsc.cli.render import echo_json, echo_table, error_text, progress
from mlopsc.errors import MismatchError, MlopscError


@click.command("conform")
@click.argument("packages", type=PATH, nargs=-1, required=True)
@click.option("--bundle", type=PATH, help="Let the reference run this bundle's graph now, too.")
@click.option(
    "--report",
    type=PATH,
    metavar="FILE",
    help="Write the report of one package here, and leave the package as it is.",
)
@runner_option
@timeout_option
@revocations_option
@json_option
def command(
    packages: tuple[Path, ...],
    bundle: Path | None,
    report: Path | None,
    runner: str | None,
    timeout: float,
    revocations: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Run each PACKAGE on its test vectors and compare with the reference runtime.

    Writes conformance.json into each package. Fails with the code of the first package that fails.
    """
    if report is not None and len(packages) > 1:
        raise click.UsageError("--report takes one package")
    from mlopsc import pipeline

    rows, results = [], []
    failures: list[MlopscError] = []
    for package in packages:
        try:
            with progress(f"running {package}", quiet=as_json):
                found = pipeline.conform(
                    package,
                    bundle=bundle,
                    runner=runner,
                    output=report,
                    revocations=revocations,
                    timeout=timeout,
                )
        except MlopscError as error:
            failures.append(error)
            rows.append([package.name, "-", "-", "-", "-", "-", "NOT RUN"])
            results.append({"folder": str(package), "error": error.message})
            continue
        results.append({"folder": str(package), **found.model_dump(mode="json")})
        for output in found.outputs:
            rows.append(
                [
                    found.target,
                    output.name,
                    error_text(output.max_absolute),
                    error_text(output.relative_to_max),
                    str(output.max_ulp),
                    f"{found.instructions:,}" if found.instructions else "-",
                    found.verdict if found.verdict == "pass" else "MISMATCH",
                ]
            )
            if output.first_differing is not None:
                vector, index = output.first_differing
                failures.append(
                    MismatchError(
                        f"'{package}': output '{output.name}' differs from the reference by "
                        f"{output.relative_to_max:.3g} of its largest value (tolerance "
                        f"{output.tolerance:g}), first at vector {vector}, element {index}",
                        hint=f"conformance.json in '{package}' has the details",
                    )
                )
    if as_json:
        echo_json(results)
    else:
        columns = ["target", "output", "abs", "of max", "ULP", "instr.", "verdict"]
        echo_table("Conformance with the reference", columns, rows)
    for failed in failures[1:]:
        click.echo(f"mlopsc: error: {failed.message}", err=True)
    if failures:
        raise failures[0]
