"""A fit report as one HTML page without scripts or anything from elsewhere.

Names come from files of others: all text is escaped, and what cannot be printed is replaced.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from mlopsc.fitting.arena_chart import arena_chart
from mlopsc.package.limits import short_name
from mlopsc.schema.fit import FitReport, FlashUse, LayerUse, RamUse

_STYLE = """
:root { color-scheme: light; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --page: #ffffff;
  --panel: #f6f8fa; --one: #2a78d6; --two: #1baf7a; --three: #eda100; --four: #8b5cc7;
  --good: #1a7f37; --bad: #c4262e; }
@media (prefers-color-scheme: dark) { :root { color-scheme: dark; --ink: #e6edf3; --soft: #9198a1;
  --line: #3d444d; --page: #0d1117; --panel: #151b23; --one: #4a90e2; --two: #27b582;
  --three: #d9a31a; --four: #a37ddb; --good: #3fb950; --bad: #f85149; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page);
  margin: 0 auto; max-width: 1180px; padding: 24px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 32px 0 8px; }
p, ul { margin: 6px 0; } .soft { color: var(--soft); }
.fits { color: var(--good); } .misses { color: var(--bad); }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 14px; flex: 1 1 240px; }
.tile b { display: block; font-size: 20px; }
.stack { position: relative; display: flex; height: 12px; background: var(--line);
  border-radius: 4px; overflow: hidden; margin: 8px 0; gap: 1px; }
.stack s { position: absolute; top: 0; bottom: 0; border-left: 3px solid var(--bad); }
.stack i, .key i { display: inline-block; } .stack i { height: 100%; }
.key i { width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
.key span { margin-right: 14px; white-space: nowrap; }
.c1 { background: var(--one); } .c2 { background: var(--two); } .c3 { background: var(--three); }
.c4 { background: var(--four); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line);
  vertical-align: top; } tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; } th, td.time { white-space: nowrap; }
.left { text-align: left; } td.name { max-width: 380px; overflow-wrap: anywhere; }
td.name small { color: var(--soft); }
td.bar { width: 130px; min-width: 110px; white-space: nowrap; } li { overflow-wrap: anywhere; }
td.bar i { display: block; height: 6px; border-radius: 0 3px 3px 0; margin-top: 3px; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg .inside { fill: #ffffff; }
svg .axis { stroke: var(--line); }
svg .tensor { fill: var(--one); } svg .scratch { fill: var(--three); }
svg rect.tensor, svg rect.scratch { stroke: var(--page); }
"""


def page(report: FitReport) -> str:
    """Return the page, which needs nothing but itself."""
    title = f"{text(report.model)} on {text(report.target)}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{title}: fit</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        _verdict(report),
        _tiles(report),
        *_list("What to change", [advice.what for advice in report.advice]),
        *_list("Not measured", report.notes),
        *_layers(report),
        *_arena(report),
        *_boards(report),
        *_list("Assumptions of the estimated time", _assumptions(report)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def duration(milliseconds: float) -> str:
    """Return a time with three digits and its unit."""
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.3g} s"
    return f"{milliseconds:.3g} ms" if milliseconds >= 1 else f"{milliseconds * 1000:.3g} us"


def text(value: str) -> str:
    """Return ``value`` for use between tags and in attributes."""
    return html.escape("".join(c if c.isprintable() else "\ufffd" for c in value))


def _verdict(report: FitReport) -> str:
    version = f"version {text(report.version)}"
    if report.verdict == "does not fit":
        lacks = " and ".join(
            f"{n:,} bytes of {'RAM' if kind == 'ram' else kind}"
            for kind, n in report.missing.items()
        )
        return f'<p><b class="misses">Does not fit: {lacks} are missing</b>, {version}</p>'
    if report.verdict == "fits":
        return f'<p><b class="fits">Fits</b>, {version}</p>'
    return f"<p><b>The target has no limits to judge by</b>, {version}</p>"


def _tiles(report: FitReport) -> str:
    flash, ram = report.flash, report.ram
    stack = [("stack", ram.stack, "c3")] if ram.stack is not None else []
    counted = "not counted" if report.instructions is None else f"{report.instructions:,}"
    each = ""
    if report.instructions and report.macs:
        each = f"{report.macs:,} MACs, {report.instructions / report.macs:.2f} per MAC"
    time = "not known"
    if report.latency is not None:
        time = f"about {duration(report.latency.milliseconds)}"
    tiles = [
        _memory("Flash", flash, [("weights", flash.weights, "c1"), ("code", flash.code, "c2"),
                                 ("other constants", flash.constants, "c3")]),
        _memory("RAM", ram, [("arena", ram.arena, "c1"), ("inputs and outputs", ram.io, "c2"),
                             *stack, ("static", ram.writable, "c4")]),
        f'<div class="tile">Instructions per inference<b>{counted}</b>'
        f'<span class="soft">{each}<br>{text(report.runner or "nothing was run")}</span></div>',
        f'<div class="tile">Time per inference, estimated<b>{time}</b></div>',
    ]  # fmt: skip
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _memory(name: str, use: FlashUse | RamUse, parts: Sequence[tuple[str, int | None, str]]) -> str:
    whole = max(use.total, use.limit or 0, 1)
    limit = "" if use.limit is None else f" of {use.limit:,}"
    bars = "".join(
        f'<i class="{colour}" style="width:{100 * (size or 0) / whole:.3f}%"></i>'
        for _, size, colour in parts
        if size
    )
    end = ""
    if use.limit is not None and use.limit < use.total:
        end = f'<s style="left:{100 * use.limit / whole:.3f}%" title="what the board has"></s>'
    key = "".join(
        f'<span><i class="{colour}"></i>{label} {size or 0:,}</span>'
        for label, size, colour in parts
    )
    return (
        f'<div class="tile">{name}<b>{use.total:,}{limit} bytes</b>'
        f'<div class="stack">{bars}{end}</div><div class="key soft">{key}</div></div>'
    )


def _list(title: str, lines: Iterable[str]) -> list[str]:
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return [f"<h2>{title}</h2><ul>{items}</ul>"] if items else []


def _assumptions(report: FitReport) -> tuple[str, ...]:
    return () if report.latency is None else report.latency.assumptions


def _boards(report: FitReport) -> list[str]:
    if not report.boards:
        return []
    rows = []
    for board in report.boards:
        fits = '<b class="fits">yes</b>' if board.fits else '<b class="misses">no</b>'
        time = "" if board.milliseconds is None else f"about {duration(board.milliseconds)}"
        build = "this build" if board.same_build else "a build of its own, by these figures"
        rows.append(
            f'<tr><td class="left">{text(board.target)}</td><td class="left">{fits}</td>'
            f"<td>{_left(board.flash_left)}</td><td>{_left(board.ram_left)}</td>"
            f'<td class="time">{time}</td>'
            f'<td class="left">{build}</td>'
            f'<td class="left soft">{text(board.description)}</td></tr>'
        )
    head = (
        '<tr><th class="left">board</th><th class="left">fits</th><th>flash left</th>'
        '<th>RAM left</th><th>time</th><th class="left">with</th><th class="left"></th></tr>'
    )
    body = "".join(rows)
    return [f'<h2>Known boards</h2><div class="scroll"><table>{head}{body}</table></div>']


def _left(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count:,}" if count >= 0 else f'<span class="misses">{-count:,} missing</span>'


def _layers(report: FitReport) -> list[str]:
    if not report.layers:
        return []
    layers = report.layers
    columns: list[tuple[str, str, list[int | None]]] = [
        ("instructions", "c1", [layer.instructions for layer in layers]),
        ("MACs", "c2", [layer.macs for layer in layers]),
        ("constants, bytes", "c4", [layer.weights for layer in layers]),
        ("arena, bytes", "c3", [layer.ram for layer in layers]),
    ]
    largest = [max((n or 0 for n in numbers), default=0) or 1 for _, _, numbers in columns]
    rows = []
    for index, layer in enumerate(report.layers):
        cells = "".join(
            _bar(numbers[index], top, colour)
            for (_, colour, numbers), top in zip(columns, largest, strict=True)
        )
        rows.append(f'<tr id="layer-{index}"><td>{index}</td>{_name(layer)}{cells}</tr>')
    titles = "".join(f"<th>{title}</th>" for title, _, _ in columns)
    head = f'<tr><th>#</th><th class="left">layer</th>{titles}</tr>'
    return [
        "<h2>Layers</h2>",
        '<p class="soft">In the order in which they run; per inference, and what of the arena is '
        "needed meanwhile.</p>",
        f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>',
    ]


def _name(layer: LayerUse) -> str:
    about = " ".join(node.op for node in layer.nodes) or layer.kind
    if layer.calls != 1:
        about += f", {layer.calls:,} times"
    kernel = f"<br><small>{text(layer.kernel)}</small>" if layer.kernel else ""
    return (
        f'<td class="left name" title="{text(layer.name)}">{text(short_name(layer.name))}<br>'
        f"<small>{text(about)}</small>{kernel}</td>"
    )


def _bar(number: int | None, top: int, colour: str) -> str:
    if number is None:
        return '<td class="bar soft">-</td>'
    bar = f'<i class="{colour}" style="width:{100 * number / top:.2f}%"></i>' if number else ""
    return f'<td class="bar">{number:,}{bar}</td>'


def _arena(report: FitReport) -> list[str]:
    if not report.blocks:
        return []
    names = [text(layer.name) for layer in report.layers]
    return [
        "<h2>The arena over time</h2>",
        '<p class="key soft"><span><i class="c1"></i>values passed between layers</span>'
        '<span><i class="c3"></i>scratch of one layer</span>'
        "<span>across: layers by number; up: bytes from the start of the arena</span></p>",
        f'<div class="scroll">{arena_chart(report.blocks, names, report.ram.arena)}</div>',
    ]
