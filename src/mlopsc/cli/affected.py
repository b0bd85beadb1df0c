"""``mlopsc affected REFERENCE [PATH...]``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, json_option
from mlopsc.cli.references import reference_argument
from mlopsc.cli.render import echo_json, echo_table
from mlopsc.errors import raise_first


@click.command("affected")
@reference_argument(required=True)
@click.argument("paths", type=PATH, nargs=-1)
@json_option
def command(reference: str, paths: tuple[Path, ...], as_json: bool) -> None:
    """List every artefact that was made of REFERENCE, directly or not.

    The log knows what was imported, built and signed here; PATHs, or folders of them, are looked
    at, too; fails afterwards if one of them cannot be read.
    """
    from mlopsc.affected import affected

    found, problems = affected(reference, paths)
    if as_json:
        echo_json([vars(entry) for entry in found])
    else:
        rows = [[e.reference, e.name, "\n".join(e.where) or "unknown"] for e in found]
        echo_table(f"Made of {reference}: {len(found)}", ["artefact", "name", "where"], rows)
    raise_first(problems)
