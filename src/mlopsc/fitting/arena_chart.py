"""Draws the arena over time as SVG: which block lies where while which layer runs."""

from __future__ import annotations

from collections.abc import Sequence

from mlopsc.schema.timeline import ArenaBlock

_LEFT, _TOP, _HEIGHT, _FOOT = 72, 12, 360, 28
_WIDTH = 1040  # that the columns share, if they are not too many
_NARROWEST, _WIDEST = 16.0, 90.0
_LABELLED = (44.0, 13.0)  # smallest width and height of a block with its size inside
_TICKS = 5


def arena_chart(blocks: Sequence[ArenaBlock], names: Sequence[str], size: int) -> str:
    """Return an SVG element.

    Args:
        blocks: Of the arena.
        names: Of the layers, escaped.
        size: Of the arena, in bytes.
    """
    column = min(_WIDEST, max(_NARROWEST, _WIDTH / max(len(names), 1)))
    top = max(size, max(block.offset + block.nbytes for block in blocks), 1)
    width = _LEFT + column * len(names) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" '
        f'height="{_TOP + _HEIGHT + _FOOT}"><title>The arena over time</title>'
    ]
    for tick in range(_TICKS + 1):
        y = _TOP + _HEIGHT * (1 - tick / _TICKS)
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{width - 8:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{top * tick // _TICKS:,}</text>"
        )
    parts += [_block(block, names, column, top) for block in blocks]
    every = max(1, round(28 / column))
    for index, name in enumerate(names):
        if index % every == 0:
            x = _LEFT + column * (index + 0.5)
            parts.append(
                f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{index}'
                f"<title>{name}</title></text>"
            )
    return "".join([*parts, "</svg>"])


def _block(block: ArenaBlock, names: Sequence[str], column: float, top: int) -> str:
    x = _LEFT + column * block.first
    width = column * (block.last - block.first + 1)
    height = _HEIGHT * block.nbytes / top
    y = _TOP + _HEIGHT - _HEIGHT * (block.offset + block.nbytes) / top
    what = "scratch of" if block.kind == "scratch" else "made by"
    title = (
        f"{block.nbytes:,} bytes at {block.offset:,}, layers {block.first} to {block.last}, "
        f"{what} {names[block.first] if block.first < len(names) else block.first}"
    )
    label = ""
    if width >= _LABELLED[0] and height >= _LABELLED[1]:
        label = (
            f'<text class="inside" x="{x + width / 2:.1f}" y="{y + height / 2 + 4:.1f}" '
            f'text-anchor="middle">{block.nbytes:,}</text>'
        )
    return (
        f'<g><title>{title}</title><rect class="{block.kind}" x="{x:.1f}" y="{y:.1f}" '
        f'width="{width:.1f}" height="{max(height, 0.5):.1f}"/>{label}</g>'
    )
