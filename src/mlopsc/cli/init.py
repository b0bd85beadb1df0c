"""``mlopsc init [MODEL]``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, force_option
from mlopsc.cli.render import progress

STEPS_YAML = "preprocess.yaml"


@click.command("init")
@click.argument("model", type=PATH, required=False)
@click.option("-o", "--output", type=PATH, help="The file; lineage.yaml beside MODEL by default.")
@click.option(
    "--data",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="File or folder of training data; its digest is filled in. Repeat.",
)
@click.option(
    "--preprocess",
    type=PATH,
    metavar="SOURCE",
    help="What made the inputs; its digest is filled in, too.",
)
@click.option(
    "--steps", is_flag=True, help="Write preprocess.yaml, too: a working example of steps."
)
@force_option
def command(
    model: Path | None,
    output: Path | None,
    data: tuple[Path, ...],
    preprocess: Path | None,
    steps: bool,
    force: bool,
) -> None:
    """Write a lineage.yaml to edit: how a model came to be.

    Filled in: repository and commit, exporter, installed frameworks, digests of what is given.
    """
    from mlopsc.lineage_file import LINEAGE_YAML
    from mlopsc.lineage_init import lineage_text, synthesise
    from mlopsc.outputs import atomic_file, check_free

    folder = Path() if model is None else model.parent
    path = output or folder / LINEAGE_YAML
    digest = None
    if preprocess is not None:
        from mlopsc.preprocessing import load_preprocess

        digest = load_preprocess(preprocess).digest
    with progress("looking around", quiet=not data):
        found = synthesise(folder, model, data, digest)
    texts = {path: lineage_text(found)}
    if steps:
        from mlopsc.steps import steps_example

        texts[path.with_name(STEPS_YAML)] = steps_example()
    for place in texts:
        check_free(place, force=force)
    for place, text in texts.items():
        with atomic_file(place, force=force) as new:
            new.write_text(text, encoding="utf-8")
    code = found.code
    click.echo(f"{path}: complete it, then 'mlopsc import'")
    if steps:
        click.echo(f"{path.with_name(STEPS_YAML)}: edit it, then 'mlopsc import --preprocess' it")
    dirty = " (with changes)" if code.dirty else ""
    click.echo(f"  commit   {code.commit or 'unknown'}{dirty}")
    for entry in found.datasets:
        click.echo(f"  data     {entry.name} {entry.digest}")
