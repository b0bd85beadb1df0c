"""``mlopsc init [MODEL]``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, force_option
from mlopsc.cli.render import progress


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
@force_option
def command(
    model: Path | None,
    output: Path | None,
    data: tuple[Path, ...],
    preprocess: Path | None,
    force: bool,
) -> None:
    """Write a lineage.yaml to edit: how a model came to be.

    Filled in: repository and commit, exporter, installed frameworks, digests of what is given.
    """
    from mlopsc.lineage_file import LINEAGE_YAML
    from mlopsc.lineage_init import lineage_text, synthesise
    from mlopsc.outputs import atomic_file

    folder = Path() if model is None else model.parent
    path = output or folder / LINEAGE_YAML
    digest = None
    if preprocess is not None:
        from mlopsc.preprocessing import load_preprocess

        digest = load_preprocess(preprocess).digest
    with progress("looking around", quiet=not data):
        found = synthesise(folder, model, data, digest)
    with atomic_file(path, force=force) as new:
        new.write_text(lineage_text(found), encoding="utf-8")
    code = found.code
    click.echo(f"{path}: complete it, then 'mlopsc import'")
    dirty = " (with changes)" if code.dirty else ""
    click.echo(f"  commit   {code.commit or 'unknown'}{dirty}")
    for entry in found.datasets:
        click.echo(f"  data     {entry.name} {entry.digest}")
