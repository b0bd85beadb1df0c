"""``mlopsc conform PACKAGE...``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, json_option, revocations_option, runner_option, timeout_option
from mlopsc.cli.render import echo_json, echo_table, error_text, progress
from mlopsc.errors import MismatchError, MlopscError


@click.command("conform")
@click.argument("packages", type=PATH, nargs=-1, required=True)
@click.option("--bundle", type=PATH, help="Let the reference run this bundle's graph now, too.")
@runner_option
@revocations_option
@timeout_option
@json_option
def command(
    packages: tuple[Path, ...],
    bundle: Path | None,
    runner: str | None,
    revocations: tuple[Path, ...],
    timeout: float,
    as_json: bool,
) -> None:
    """Run each PACKAGE on its test vectors and compare with the reference runtime.

    Writes conformance.json into each package. Fails with the code of the first package that fails.
    """
    from mlopsc import pipeline

    rows, results = [], []
    failures: list[MlopscError] = []
    for package in packages:
        try:
            with progress(f"running {package}", quiet=as_json):
                report = pipeline.conform(
                    package,
                    bundle=bundle,
                    runner=runner,
                    revocations=revocations,
                    timeout=timeout,
                )
        except MlopscError as error:
            failures.append(error)
            rows.append([package.name, "-", "-", "-", "-", "-", "NOT RUN"])
            results.append({"folder": str(package), "error": error.message})
            continue
        results.append({"folder": str(package), **report.model_dump(mode="json")})
        for output in report.outputs:
            rows.append(
                [
                    report.target,
                    output.name,
                    error_text(output.max_absolute),
                    error_text(output.relative_to_max),
                    str(output.max_ulp),
                    f"{report.instructions:,}" if report.instructions else "-",
                    report.verdict if report.verdict == "pass" else "MISMATCH",
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
