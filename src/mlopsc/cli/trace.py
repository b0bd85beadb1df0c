"""``mlopsc trace ARTEFACT``."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlopsc.cli.options import PATH, force_option, json_option
from mlopsc.cli.render import UNBOUNDED, echo_json, visible

if TYPE_CHECKING:
    from rich.tree import Tree

    from mlopsc.tracing import Node

_STYLES = {
    "package": "bold magenta", "bundle": "bold cyan", "graph": "bold blue", "dataset": "bold green",
    "code": "bold yellow", "model": "bold cyan", "signature": "bold red",
}  # fmt: skip
_WIDTH = 120  # of the picture, in characters


@click.command("trace")
@click.argument("artefact", type=PATH)
@click.option("--picture", type=PATH, metavar="SVG", help="Draw it into a file, too.")
@force_option
@json_option
def command(artefact: Path, picture: Path | None, force: bool, as_json: bool) -> None:
    """Walk back from a package or bundle to every data set, commit, tool and decision."""
    from mlopsc.outputs import atomic_file
    from mlopsc.tracing import trace

    found = trace(artefact)
    if picture is not None:
        with atomic_file(picture, force=force) as path:
            path.write_text(_draw(found), encoding="utf-8")
    if as_json:
        echo_json(found.to_dict())
        return
    from rich.console import Console

    # Into a file or pipe there is no width to fit: a digest is never cut.
    Console(width=None if sys.stdout.isatty() else UNBOUNDED).print(_tree(found))


def _tree(node: Node, parent: Tree | None = None) -> Tree:
    """Return ``node`` and what it was made of as a tree of lines."""
    from rich.text import Text
    from rich.tree import Tree

    line = Text.assemble((f"{node.kind} ", _STYLES.get(node.kind, "bold")), visible(node.name))
    if node.digest is not None:
        line.append(f"  {node.digest}", style="dim")
    for name, value in node.facts.items():
        line.append(f"\n{visible(name)}: ", style="dim")
        line.append(visible(value))
    branch = Tree(line) if parent is None else parent.add(line)
    for part in node.made_of:
        _tree(part, branch)
    return branch


def _draw(node: Node) -> str:
    """Return the tree as SVG; the same tree gives the same text."""
    from rich.console import Console
    from rich.terminal_theme import SVG_EXPORT_THEME

    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(_tree(node))
    return console.export_svg(
        title=visible(node.name), theme=SVG_EXPORT_THEME, code_format=_SVG, unique_id="trace"
    )


# As rich draws it, without fonts from the network.
_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
  <style>
    .{unique_id}-matrix {{
      font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: {char_height}px;
      line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
  </defs>
  {chrome}
  <g transform="translate({terminal_x}, {terminal_y})"
     clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
  </g>
</svg>
"""
