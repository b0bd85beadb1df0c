"""``mlopsc cache`` and ``mlopsc cache clear``."""

from __future__ import annotations

import click

from mlopsc.cli.options import json_option
from mlopsc.cli.render import echo_json, echo_table, size


@click.group("cache", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Show the cache of what was imported and built, or clear it."""
    if context.invoked_subcommand is not None:
        return
    from mlopsc.cache import open_cache

    cache = open_cache()
    usage = cache.usage()
    if as_json:
        echo_json(
            {
                "folder": str(cache.folder),
                "entries": usage.entries,
                "bytes": usage.nbytes,
                "limit": cache.limit,
            }
        )
        return
    rows = [
        ["folder", str(cache.folder)],
        ["entries", str(usage.entries)],
        ["size", size(usage.nbytes)],
        ["limit", size(cache.limit) if cache.limit else "0: disabled"],
    ]
    echo_table("Cache", ["", ""], rows)


@command.command("clear")
def clear() -> None:
    """Remove everything that is in the cache."""
    from mlopsc.cache import open_cache

    removed = open_cache().clear()
    click.echo(f"removed {removed.entries} entries, {size(removed.nbytes)}")
