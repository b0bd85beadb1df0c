"""``mlopsc build SOURCE --target T -o DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlopsc.cli.options import (
    PATH,
    build_options,
    cache_option,
    collect_build_options,
    collect_import_options,
    collect_trust_options,
    force_option,
    import_options,
    json_option,
    trust_options,
    unchecked_option,
)
from mlopsc.cli.render import echo_json, echo_table, progress, size, visible

_MEASURE_S = 120.0  # for the verdict at the end of a build; 'mlopsc fit' takes the time it needs


@click.command("build")
@click.argument("source", type=PATH)
@click.option(
    "-t", "--target", "targets", multiple=True, required=True, help="Target name or .toml; repeat."
)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the packages.")
@build_options
@click.option("--source", "source_code", is_flag=True, help="Deliver the generated C too.")
@click.option(
    "--layout",
    "layouts",
    multiple=True,
    type=click.Choice(["source", "cmsis-pack", "zephyr", "arduino"]),
    help="Deliver this form for firmware too, below layouts/; repeat. Kernels must be C.",
)
@click.option(
    "--no-fit",
    "fit",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Do not measure packages for microcontrollers, as 'mlopsc fit' does.",
)
@import_options
@trust_options
@unchecked_option
@force_option
@cache_option
@json_option
def command(
    source: Path,
    targets: tuple[str, ...],
    output: Path,
    source_code: bool,
    layouts: tuple[Any, ...],
    fit: bool,
    force: bool,
    cache: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Build one package folder per target inside DIR from a bundle or a model."""
    from mlopsc import pipeline

    how = collect_build_options(options)
    trust = collect_trust_options(options)
    with progress(f"building {source}", quiet=as_json) as update:
        packages = pipeline.build(
            source,
            targets,
            output,
            options=collect_import_options(options),
            how=how.model_copy(update={"source_code": source_code, "layouts": layouts}),
            trust=trust,
            force=force,
            cache=cache,
            progress=lambda target, what: update(
                f"{target}: {what}", keep=what in (pipeline.UNCHANGED, pipeline.NOT_SIGNED)
            ),
        )
    if as_json:
        echo_json({name: p.model_dump(mode="json") for name, p in packages.items()})
        return
    rows = [
        [
            name,
            p.generator,
            size(p.memory.code),
            size(p.memory.read_only),
            size(p.memory.arena),
            str(output / name),
        ]
        for name, p in packages.items()
    ]
    echo_table("Packages", ["target", "kernels", "code", "constants", "arena", "folder"], rows)
    for name, package in packages.items():
        above = package.memory.arena - package.memory.arena_lower_bound
        if above > 0:
            bound = package.memory.arena_lower_bound
            click.echo(f"{name}: the arena is {above} bytes larger than the lower bound, {bound}")
    edge = [name for name, package in packages.items() if package.target.family == "edge"]
    if fit and edge:
        _judge([output / name for name in edge])


def _judge(folders: list[Path]) -> None:
    """Print the short form of the verdict of each package."""
    from mlopsc.cli.fit import SHORT_COLUMNS, short
    from mlopsc.fitting import Measuring, judge
    from mlopsc.package_reader import read_package

    rows, lines = [], []
    for folder in folders:
        with progress(f"measuring {folder}", quiet=False):
            package = read_package(folder)
            how = Measuring(timeout=_MEASURE_S, must_run=False)
            report = judge(package, package.info.target, how)
        rows.append(short(report))
        if report.runner is None or report.instructions is None:
            lines += [f"{report.target}: {text}" for text in report.notes]
        lines += [f"{report.target}: {advice.what}" for advice in report.advice]
    echo_table("Fit", SHORT_COLUMNS, rows)
    for line in lines:
        click.echo(visible(line))
