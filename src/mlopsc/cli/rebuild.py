"""``mlopsc rebuild PACKAGE``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH
from mlopsc.cli.render import progress


@click.command("rebuild")
@click.argument("package", type=PATH)
@click.option("--bundle", type=PATH, help="What it was built from; where the log says by default.")
@click.option(
    "--any-version", is_flag=True, help="Try with other tools than those that are recorded."
)
def command(package: Path, bundle: Path | None, any_version: bool) -> None:
    """Build PACKAGE again from its bundle, as it was built, and compare every byte.

    Target, flags and versions are those that its provenance records.
    """
    from mlopsc.rebuild import rebuild

    with progress(f"building {package} again", quiet=False):
        found = rebuild(package, bundle, any_version=any_version)
    click.echo(f"{package}: {found.files} files are the same, byte for byte")
