"""The fit verdict: limits, advice, boards, instructions by layer, and the page."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser

import models
import onnx
import onnx_ir as ir
import pytest
from test_lifetimes import Maker

from mlopsc.errors import LimitError
from mlopsc.fitting import require_fit
from mlopsc.fitting.layers import instructions_by_layer
from mlopsc.fitting.page import page
from mlopsc.lower.emit import emit_steps
from mlopsc.lower.flatten import FlatProgram, calls_of
from mlopsc.lower.layers import blocks_of, layers_of
from mlopsc.lower.lifetimes import lifetimes
from mlopsc.lower.origins import Origin
from mlopsc.lower.plan import plan_storage
from mlopsc.lower.translate import translate
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
from mlopsc.schema.program import Kernel, calls_in
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


def test_inputs_and_outputs_may_move_and_the_stack_may_get_room() -> None:
    needs = Needs(flash=1, ram=5000, arena=4000, io=300, timeline=timeline("int8"))
    texts = [a.what for a in advise(board("b", 10, 4900), needs)]
    assert "--io-in-arena" in texts[0] and "300 bytes" in texts[0]
    assert "--arena-limit 3900" in texts[1]
    # What the build itself could not make fit is not offered.
    assert not [a for a in advise(board("b", 10, 4200), needs) if "--arena-limit" in a.what]


def test_integer_weights_are_not_advised_to_become_integers() -> None:
    needs = Needs(flash=50_000, ram=4000, arena=4000, timeline=timeline("int8"))
    advice = advise(board("b", 25_000, 3000), needs)
    assert not [a for a in advice if "quantize" in a.what]
    by_ram = next(a for a in advice if a.memory == "ram")
    assert "'small'" in by_ram.what and "4000 bytes" in by_ram.what


def test_what_fits_needs_no_advice() -> None:
    assert advise(board("b", 100_000, 10_000), Needs(50_000, 4000, 4000, timeline=timeline())) == ()


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
    in_place = ArenaBlock(kind="tensor", offset=0, nbytes=3500, first=1, last=1)
    shared = timeline().model_copy(update={"blocks": (*timeline().blocks, in_place)})
    assert ram_by_layer(shared) == [4000, 3500]


def test_every_known_board_says_what_a_verdict_needs() -> None:
    for target in limits.known_boards():
        assert target.hardware.cycles_per_instruction, target.name
        assert target.hardware.clock_hz, target.name


@pytest.mark.parametrize("seed", range(60))
def test_layers_are_numbered_as_lifetimes_are(seed: int) -> None:
    maker = Maker(random.Random(seed))  # noqa: S311 - a test, not a secret
    steps, _ = maker.steps([], 2)
    flat = FlatProgram(steps, maker.places)
    for number, call in enumerate(calls_of(steps)):
        object.__setattr__(call, "origins", (Origin(f"node {number}", "Op", 1),))
    alive = lifetimes(flat, maker.scratch)
    plan = plan_storage(alive.blocks, 16, alive.sharings)
    symbols = {kernel: f"c_{kernel}" for kernel in maker.scratch}
    emitted = emit_steps(flat, symbols, plan.offsets, {})
    kernels = {
        s: Kernel(symbol=s, parameters=(), scratch=(), schedule="") for s in symbols.values()
    }
    layers = list(layers_of(flat, emitted, kernels))
    placed = blocks_of(alive.blocks, plan.offsets, len(layers))
    assert max((b.last for b in alive.blocks), default=0) < max(len(layers), 1)
    for block in placed:
        if block.kind == "scratch":
            assert maker.scratch[layers[block.first].kernel.removeprefix("c_")]
    assert sum(block.kind == "scratch" for block in placed) == sum(
        len(maker.scratch[x.kernel.removeprefix("c_")]) for x in layers if x.kernel
    )
    names = [x.nodes[0].name for x in layers if x.kind == "kernel"]
    assert names == [f"node {n}" for n in range(len(names))]
    assert [x.kernel for x in layers if x.kernel] == [c.kernel for c in calls_in(emitted)]


def test_instructions_of_a_hand_written_kernel_belong_to_its_use() -> None:
    steps = Timeline(
        layers=(
            layer("one", "m_k0", function="mlopsc_conv_s8"),
            layer("two", "m_k1", function="mlopsc_conv_s8"),
        )
    )
    inlined = [CallSite("mlopsc_conv_s8", 1, 10), CallSite("mlopsc_conv_s8", 1, 20)]
    assert instructions_by_layer(steps, inlined) == {0: 10, 1: 20}
    wrapped = [CallSite("m_k0", 1, 10), CallSite("mlopsc_conv_s8", 1, 20)]
    assert instructions_by_layer(steps, wrapped) == {0: 10, 1: 20}


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


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "expected"),
    [
        ("MatMul", [(2, 3), (3, 5)], {}, 30),
        ("Conv", [(1, 2, 6, 6), (4, 2, 3, 3)], {}, 4 * 2 * 9 * 16),
        ("Conv", [(1, 4, 6, 6), (4, 1, 3, 3)], {"group": 4}, 4 * 9 * 16),
        ("Gemm", [(1, 7), (3, 7), (3,)], {"transB": 1}, 21),
        ("MatMul of int32", [(2, 3), (3, 5)], {}, 30),
        ("Softmax", [(2, 8)], {"axis": 1}, 0),
        ("ReduceSum", [(2, 8)], {}, 0),
        ("Mul", [(2, 8), (2, 8)], {}, 0),
    ],
)
def test_products_that_are_added_are_counted(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, int], expected: int
) -> None:
    op, _, dtype = op.partition(" of ")
    dtype = dtype or "float32"
    inputs = [models.value(f"x{i}", shape, dtype) for i, shape in enumerate(shapes)]
    made = models.model(
        [models.node(op, [x.name for x in inputs], ["y"], **attributes)],
        inputs,
        [models.value("y", None, dtype)],
    )
    inferred = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(made))
    origins = translate(inferred, None)[2]
    assert [(o.name, o.op, o.macs) for o in origins.values()] == [("make_y", op, expected)]
