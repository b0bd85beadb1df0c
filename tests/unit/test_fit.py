"""The fit verdict: limits, advice, boards, instructions by layer, and the page."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser

import pytest
from test_lifetimes import Maker

from mlopsc.errors import LimitError
from mlopsc.fitting import require_fit
from mlopsc.fitting.layers import instructions_by_layer
from mlopsc.fitting.page import page
from mlopsc.lower.flatten import FlatProgram, KernelCall, calls_of
from mlopsc.lower.layers import blocks_of, layers_of
from mlopsc.lower.lifetimes import lifetimes
from mlopsc.lower.origins import Origin
from mlopsc.lower.plan import plan_storage
from mlopsc.package import limits
from mlopsc.package.limits import (
    Needs,
    advise,
    check_limits,
    judge_boards,
    missing_bytes,
    ram_by_layer,
    same_machine,
)
from mlopsc.runners import CallSite
from mlopsc.schema.fit import (
    BoardFit,
    FitReport,
    FlashUse,
    Largest,
    Latency,
    LayerUse,
    RamUse,
)
from mlopsc.schema.target import Limits, Target
from mlopsc.schema.timeline import ArenaBlock, Layer, LayerNode, Timeline
from mlopsc.targets import load_target

HOSTILE = '</title><script>alert("1")</script>\x1b[31m\u202e&amp;'


def board(name: str, flash: int | None, ram: int | None, base: str = "cortex-m4f") -> Target:
    target = load_target(base)
    hardware = target.hardware.model_copy(
        update={"clock_hz": 100_000_000, "cycles_per_instruction": 2.0}
    )
    given = Limits(flash_bytes=flash, ram_bytes=ram)
    return target.model_copy(update={"name": name, "limits": given, "hardware": hardware})


def layer(name: str, kernel: str = "k0", **rest: object) -> Layer:
    return Layer.model_validate(
        {"kind": "kernel", "kernel": kernel, "nodes": [{"name": name, "op": "Conv"}], **rest}
    )


def timeline(dtype: str = "float32") -> Timeline:
    return Timeline(
        layers=(layer("small", weights={dtype: 400}), layer("big", weights={dtype: 40_000})),
        blocks=(
            ArenaBlock(kind="tensor", offset=0, nbytes=3000, first=0, last=1),
            ArenaBlock(kind="scratch", offset=3000, nbytes=1000, first=0, last=0),
        ),
    )


def test_missing_bytes_are_exact_at_the_limit() -> None:
    target = board("b", 1000, 500)
    assert missing_bytes(target, Needs(flash=1000, ram=500)) == {}
    assert missing_bytes(target, Needs(flash=1001, ram=507)) == {"flash": 1, "ram": 7}
    assert missing_bytes(board("free", None, None), Needs(flash=1 << 40, ram=1 << 40)) == {}


def test_float_weights_are_advised_to_become_integers() -> None:
    needs = Needs(flash=50_000, ram=4000, arena=4000, timeline=timeline())
    advice = advise(board("b", 25_000, 10_000), needs)
    assert [a.memory for a in advice] == ["flash"] * 3
    assert (advice[0].saves, advice[0].enough) == (30_300, True)
    assert "mlopsc quantize" in advice[0].what
    assert "'big'" in advice[1].what and "40000 bytes" in advice[1].what
    assert advise(board("b", 10_000, 10_000), needs)[0].enough is False


def test_integer_weights_are_not_advised_to_become_integers() -> None:
    needs = Needs(flash=50_000, ram=4000, arena=4000, timeline=timeline("int8"))
    advice = advise(board("b", 25_000, 3000), needs)
    assert not [a for a in advice if "quantize" in a.what]
    by_ram = next(a for a in advice if a.memory == "ram")
    assert "'small'" in by_ram.what and "4000 bytes" in by_ram.what


def test_what_fits_needs_no_advice() -> None:
    assert advise(board("b", 100_000, 10_000), Needs(50_000, 4000, 4000, timeline())) == ()


def test_boards_are_judged_by_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    boards = (
        board("roomy", 100_000, 20_000),
        board("tight", 50_000, 4000),
        board("no-flash", 49_000, 20_000),
        board("other-core", 100_000, 10_000, base="cortex-m7"),
        board("not-a-microcontroller", 1 << 30, 1 << 30, base="wasm32-simd"),
    )
    monkeypatch.setattr(limits, "known_boards", lambda: boards)
    found = judge_boards(board("asked", 10, 10), Needs(50_000, 4000, 4000), 1_000_000)
    assert [(b.target, b.fits, b.same_build) for b in found] == [
        ("tight", True, True),
        ("other-core", True, False),
        ("roomy", True, True),
        ("no-flash", False, True),
    ]
    assert found[0] == BoardFit(
        target="tight",
        description=boards[1].description,
        fits=True,
        same_build=True,
        flash_left=0,
        ram_left=0,
        milliseconds=20.0,
    )
    assert found[1].milliseconds is None
    assert found[3].flash_left == -1000
    with pytest.raises(LimitError, match="50000 bytes of flash; target 'asked' has 10, 49990") as e:
        check_limits(board("asked", 10, 10), Needs(50_000, 4000, 4000), what="model 'm'")
    assert "tight, other-core, roomy would fit" in e.value.hint


def test_clock_and_memory_do_not_change_what_a_build_runs_on() -> None:
    assert same_machine(board("a", 1, 1), load_target("cortex-m4f"))
    assert not same_machine(board("a", 1, 1), load_target("cortex-m7"))


def test_ram_of_a_layer_is_what_lives_while_it_runs() -> None:
    assert ram_by_layer(timeline()) == [4000, 3000]


def test_every_known_board_says_what_a_verdict_needs() -> None:
    for target in limits.known_boards():
        assert target.hardware.cycles_per_instruction, target.name
        assert target.hardware.clock_hz, target.name


@pytest.mark.parametrize("seed", range(60))
def test_layers_are_numbered_as_lifetimes_are(seed: int) -> None:
    maker = Maker(random.Random(seed))  # noqa: S311 - a test, not a secret
    steps, _ = maker.steps([maker.tensor("input")], 2)
    flat = FlatProgram(steps, maker.places)
    for number, call in enumerate(calls_of(steps)):
        object.__setattr__(call, "origins", (Origin(f"node {number}", "Op", 1),))
    blocks = lifetimes(flat, maker.scratch)
    symbols = {kernel: kernel for kernel in maker.scratch}
    layers = list(layers_of(flat, symbols, dict.fromkeys(symbols, ())))
    placed = blocks_of(blocks, plan_storage(blocks, 16).offsets)
    assert all(block.first <= block.last < len(layers) for block in placed)
    for block in placed:
        if block.kind == "scratch":
            assert maker.scratch[layers[block.first].kernel]
    kernels = [x.nodes[0].name for x in layers if x.kind == "kernel"]
    assert kernels == [f"node {n}" for n in range(len(kernels))]
    assert len(kernels) == sum(isinstance(s, KernelCall) for s in calls_of(steps))


def test_instructions_are_those_of_the_place_of_the_call() -> None:
    steps = Timeline(
        layers=(
            layer("first", "a"), Layer(kind="copy"), Layer(kind="if"), layer("not taken", "b"),
            layer("second", "a"), layer("last", "c"),
        )
    )  # fmt: skip
    sites = [
        CallSite("a", 1, 10), CallSite("copy", 1, 99), CallSite("a", 3, 40), CallSite("c", 1, 5),
    ]  # fmt: skip
    assert instructions_by_layer(steps, sites) == {0: 10, 4: 40, 5: 5}
    assert instructions_by_layer(steps, [CallSite("c", 1, 5), CallSite("a", 1, 10)]) == {}
    assert instructions_by_layer(steps, []) == {}


def report(name: str = "conv", *, limit: int | None = None) -> FitReport:
    node = LayerNode(name=name, op=name)
    use = LayerUse(
        name=name, kind="kernel", kernel="k", nodes=(node,), calls=2, macs=50, instructions=200,
        weights=7, ram=64,
    )  # fmt: skip
    return FitReport(
        model=name,
        version=name,
        target="board",
        verdict="does not fit",
        missing={"flash": 1234, "ram": 99},
        flash=FlashUse(code=1, weights=2, constants=3, initial=0, measured="linked", limit=limit),
        ram=RamUse(arena=64, io=5, stack=6, writable=0, limit=limit),
        runner=name,
        instructions=1000,
        macs=50,
        latency=Latency(
            milliseconds=1.5, clock_hz=1, cycles_per_instruction=1, assumptions=(name,)
        ),
        largest=Largest(ram=0, weights=0, instructions=0),
        layers=(use, use.model_copy(update={"name": "second", "instructions": None})),
        blocks=(ArenaBlock(kind="tensor", offset=0, nbytes=64, first=0, last=1),),
        advice=({"what": name, "memory": "flash"},),  # type: ignore[arg-type]
        boards=(
            BoardFit(
                target=name, description=name, fits=False, same_build=True, flash_left=-3,
                ram_left=4, milliseconds=0.5,
            ),
        ),
        notes=(name,),
    )  # fmt: skip


class Elements(HTMLParser):
    """Collects the elements, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_shows_hostile_names_as_text() -> None:
    found = Elements()
    found.feed(page(report(HOSTILE)))
    plain = Elements()
    plain.feed(page(report("conv")))
    assert found.elements == plain.elements
    assert "script" not in found.elements
    assert found.text.count('<script>alert("1")</script>') >= 6
    assert "\x1b" not in found.text and "\u202e" not in found.text


def test_a_page_holds_every_layer_and_needs_nothing_else() -> None:
    text = page(report())
    found = Elements()
    found.feed(text)
    assert [v for k, v in found.attributes if k == "id"] == ["layer-0", "layer-1"]
    assert found.elements.count("rect") == 1
    assert "1,234 bytes of flash" in found.text and "99 bytes of RAM" in found.text
    for name, value in found.attributes:
        assert name not in ("src", "href"), (name, value)
    assert not re.search(r"url\(|@import", text)
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}


def test_a_page_marks_where_memory_ends() -> None:
    assert 'title="what the board has"' in page(report(limit=5))
    assert 'title="what the board has"' not in page(report(limit=500))


def test_a_report_survives_json() -> None:
    assert FitReport.model_validate_json(report(HOSTILE).to_json()) == report(HOSTILE)


def test_a_verdict_becomes_an_error_with_what_is_missing() -> None:
    with pytest.raises(LimitError, match="1234 bytes of flash and 99 bytes of RAM") as error:
        require_fit(report("advice"))
    assert error.value.hint == "advice"
    require_fit(report().model_copy(update={"verdict": "fits"}))
