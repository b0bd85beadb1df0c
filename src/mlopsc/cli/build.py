"""``mlopsc build SOURCE --target T -o DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlopsc.cli.options import (
    PATH,
    cache_option,
    collect_import_options,
    collect_trust_options,
    force_option,
    import_options,
    json_option,
    trust_options,
)
from mlopsc.cli.render import echo_json, echo_table, progress, size
from mlopsc.schema.build_options import LAYOUT_NAMES


@click.command("build")
@click.argument("source", type=PATH)
@click.option(
    "-t", "--target", "targets", multiple=True, required=True, help="Target name or .toml; repeat."
)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the packages.")
@click.option(
    "--generator",
    type=click.Choice(["llvm", "c"]),
    help="How kernels are generated; each target's own by default.",
)
@click.option(
    "--schedule",
    type=click.Choice(["tiled", "none"]),
    default="tiled",
    show_default=True,
    help="'none' leaves the loops unscheduled, to measure what scheduling gives.",
)
@click.option(
    "--accuracy",
    type=click.Choice(["fast", "strict"]),
    default="fast",
    show_default=True,
    help="'strict' allows no algorithm that trades accuracy for speed.",
)
@click.option("--source", "source_code", is_flag=True, help="Deliver the generated C too.")
@click.option(
    "--layout",
    "layouts",
    multiple=True,
    type=click.Choice(LAYOUT_NAMES),
    help="Deliver this form for firmware too, below layouts/; repeat. Kernels must be C.",
)
@import_options
@trust_options
@click.option("--unchecked", is_flag=True, help="Do not look at the bundle's signature; recorded.")
@force_option
@cache_option
@json_option
def command(
    source: Path,
    targets: tuple[str, ...],
    output: Path,
    generator: Any,
    schedule: Any,
    accuracy: Any,
    source_code: bool,
    layouts: tuple[Any, ...],
    force: bool,
    cache: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Build one package folder per target inside DIR from a bundle or an ONNX file."""
    from mlopsc import pipeline
    from mlopsc.schema.build_options import BuildOptions

    trust = collect_trust_options(options)
    with progress(f"building {source}", quiet=as_json) as update:
        packages = pipeline.build(
            source,
            targets,
            output,
            options=collect_import_options(options),
            how=BuildOptions(
                generator=generator,
                schedule=schedule,
                accuracy=accuracy,
                source_code=source_code,
                layouts=layouts,
            ),
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
