"""What verbs share for talking to people: tables, progress, sizes, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

UNBOUNDED = 10_000


def visible(text: str) -> str:
    """Return ``text`` without what would steer a terminal: names come from files of others."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def echo_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def echo_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; columns of numbers are given as text already."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # As Text: brackets in names and paths are no markup.
    click.echo(visible(title))
    table = Table(header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    # Into a file or pipe there is no width to fit: a path is never broken.
    Console(width=None if sys.stdout.isatty() else UNBOUNDED).print(table)


@contextmanager
def progress(text: str, *, quiet: bool) -> Iterator[Any]:
    """Show a spinner on standard error while the block runs.

    Yields ``update(text, keep=False)``: what is kept stays as a line of its own.
    """
    if quiet:
        yield lambda text, *, keep=False: None
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    with console.status(Text(text)) as status:

        def update(text: str, *, keep: bool = False) -> None:
            if keep:
                console.print(Text(text), soft_wrap=True)
            status.update(Text(text))

        yield update


def size(count: int) -> str:
    """Render a number of bytes."""
    if count < 10_000:
        return f"{count} B"
    if count < 10 << 20:
        return f"{count / 1024:.1f} KiB"
    return f"{count / (1 << 20):.1f} MiB" if count < 1 << 32 else f"{count / (1 << 30):.1f} GiB"


def error_text(value: float) -> str:
    """Render an error figure."""
    return "0" if value == 0 else f"{value:.2e}"
