"""``mlopsc fit`` on packages, bundles and ONNX files: what is measured, and the verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from models import model, node, value
from onnx import helper
from support import SHARED_MODELS, check_words

import mlopsc
from mlopsc.cli import cli
from mlopsc.errors import BrokenPackageError, InputError, LimitError
from mlopsc.schema.fit import FitReport
from mlopsc.schema.package import Package

MACS = 199_936  # of the example: three convolutions, a depthwise one and a product
HOSTILE = "</td><script>alert('x')</script>\x1b[31m"


def board(folder: Path, name: str, *, flash: int, ram: int, base: str = "cortex-m7") -> str:
    path = folder / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\nextends = "{base}"\ndescription = "A board"\n'
        f"[hardware]\nclock_hz = 100_000_000\ncycles_per_instruction = 2.0\n"
        f"[limits]\nflash_bytes = {flash}\nram_bytes = {ram}\n"
    )
    return str(path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["fit", *map(str, arguments)])


def info(package: Path) -> Package:
    return Package.model_validate_json((package / "model.json").read_bytes())


@pytest.fixture(scope="module")
def report(digits_packages: dict[str, Path]) -> FitReport:
    return mlopsc.fit(digits_packages["cortex-m7"])


def test_a_package_is_measured(digits_packages: dict[str, Path], report: FitReport) -> None:
    package = info(digits_packages["cortex-m7"])
    memory = package.memory
    assert report.verdict == "no limits" and not report.missing
    assert report.flash.measured == "linked"
    assert report.flash.weights == memory.weights
    # The descriptor and the generic entry are not called by what runs the model alone.
    assert 0 < report.flash.code < memory.code
    assert report.flash.constants < memory.read_only - memory.weights
    assert (report.ram.arena, report.ram.io) == (memory.arena, memory.io)
    assert report.ram.stack is not None and 32 < report.ram.stack < 4096
    run = mlopsc.conform(digits_packages["cortex-m7"])
    assert report.instructions == run.instructions


def test_layers_account_for_the_whole_inference(report: FitReport) -> None:
    assert report.macs == MACS == sum(layer.macs for layer in report.layers)
    counted = sum(layer.instructions or 0 for layer in report.layers)
    assert report.instructions is not None
    assert 0.99 * report.instructions < counted <= report.instructions
    assert [node.name for layer in report.layers for node in layer.nodes][:4] == [
        "cast", "scale", "conv_0", "relu_1",
    ]  # fmt: skip
    assert all(layer.nodes and layer.instructions for layer in report.layers)
    conv = report.layers[report.largest.instructions or 0]
    assert "conv_7" in conv.name and conv.weights == 4 * (32 * 32 * 9 + 32)
    assert max(layer.ram for layer in report.layers) == report.ram.arena
    for block in report.blocks:
        assert block.offset + block.nbytes <= report.ram.arena
        for other in report.blocks:
            together = block.first <= other.last and other.first <= block.last
            apart = (
                block.offset + block.nbytes <= other.offset
                or other.offset + other.nbytes <= block.offset
            )
            in_place = block.first == other.last or other.first == block.last
            assert block is other or not together or apart or in_place


def test_what_a_board_has_is_enough_to_the_byte(
    digits_packages: dict[str, Path], report: FitReport, tmp_path: Path
) -> None:
    package = digits_packages["cortex-m7"]
    enough = board(tmp_path, "enough", flash=report.flash.total, ram=report.ram.total)
    found = mlopsc.fit(package, enough)
    assert found.verdict == "fits" and found.advice == ()
    assert found.latency is not None and report.instructions is not None
    assert found.latency.milliseconds == pytest.approx(report.instructions * 2 / 1e5)
    assert any("cycles per instruction" in text for text in found.latency.assumptions)

    small = board(tmp_path, "small", flash=report.flash.total - 5, ram=report.ram.total - 7)
    found = mlopsc.fit(package, small)
    assert found.verdict == "does not fit"
    assert found.missing == {"flash": 5, "ram": 7}
    assert any("quantize" in advice.what for advice in found.advice)


def test_a_bundle_that_does_not_fit_ends_as_a_limit(
    digits_bundle: Path, report: FitReport, tmp_path: Path
) -> None:
    # The stack alone makes the difference: the build itself would pass.
    target = board(tmp_path, "tiny", flash=1 << 20, ram=report.ram.total - 1)
    result = run(digits_bundle, "--target", target, "--json", "--unchecked")
    assert result.exception is not None and isinstance(result.exception, LimitError)
    check_words(result.exception.message, result.exception.hint, "1 bytes of RAM", "'tiny'")
    found = json.loads(result.stdout)
    assert found["verdict"] == "does not fit" and found["missing"] == {"ram": 1}
    advice = FitReport.model_validate_json(json.dumps(found)).advice[0]
    assert advice.option == "--arena-limit" and advice.enough
    # As advised, it fits.
    limit = int(advice.what.split("'")[1].split()[1])
    assert mlopsc.fit(digits_bundle, target, arena_limit=limit, unchecked=True).verdict == "fits"


def test_a_build_that_exceeds_its_board_says_what_to_change(
    digits_bundle: Path, tmp_path: Path
) -> None:
    target = board(tmp_path, "narrow", flash=1 << 20, ram=5000)
    with pytest.raises(LimitError, match="bytes of RAM") as error:
        mlopsc.build(digits_bundle, target, tmp_path / "out", unchecked=True)
    assert "mlopsc quantize" in error.value.hint and "layer 'conv_" in error.value.hint
    assert not (tmp_path / "out").exists()


def test_a_build_and_the_verdict_agree_on_flash(
    digits_bundle: Path, report: FitReport, tmp_path: Path
) -> None:
    exact = board(tmp_path, "exact", flash=report.flash.total, ram=1 << 20)
    mlopsc.build(digits_bundle, exact, tmp_path / "out", unchecked=True)
    short = board(tmp_path, "short", flash=report.flash.total - 1, ram=1 << 20)
    with pytest.raises(LimitError, match=f"{report.flash.total} bytes of flash.* 1 too few"):
        mlopsc.build(digits_bundle, short, tmp_path / "out", unchecked=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["exact"]


def test_what_cannot_run_is_an_error_unless_it_is_too_large_anyway(
    digits_packages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise BrokenPackageError("the emulated board has too little memory")

    monkeypatch.setattr("mlopsc.fitting.measure_run", fails)
    package = digits_packages["cortex-m7"]
    with pytest.raises(BrokenPackageError, match="too little memory"):
        mlopsc.fit(package, board(tmp_path, "large", flash=1 << 20, ram=1 << 20))
    found = mlopsc.fit(package, board(tmp_path, "little", flash=1 << 20, ram=1000))
    assert found.verdict == "does not fit" and found.ram.stack is None
    assert any("too little memory" in note for note in found.notes)


def test_a_package_takes_no_options_of_builds(digits_packages: dict[str, Path]) -> None:
    result = run(digits_packages["cortex-m7"], "--schedule", "none")
    assert isinstance(result.exception, InputError)
    check_words(result.exception.message, result.exception.hint, "is a package")


def test_a_package_is_judged_only_for_its_machine(
    digits_packages: dict[str, Path], tmp_path: Path
) -> None:
    other = board(tmp_path, "other", flash=1 << 20, ram=1 << 20, base="cortex-m4f")
    with pytest.raises(InputError, match="another machine"):
        mlopsc.fit(digits_packages["cortex-m7"], other)
    found = mlopsc.fit(digits_packages["wasm32-simd"])
    assert found.flash.measured == "objects" and found.instructions is None
    assert any("does not count" in note for note in found.notes)


def test_a_model_needs_a_target(digits_bundle: Path) -> None:
    result = run(digits_bundle)
    assert isinstance(result.exception, InputError)
    check_words(result.exception.message, result.exception.hint, "--target")


def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    made = model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name=HOSTILE),
            helper.make_node("Relu", ["c"], ["y"], name=""),
        ],
        [value("x", [1, 2, 6, 6])],
        [value("y", [1, 3, 4, 4])],
        {"w": models.random(3, 2, 3, 3)},
    )
    path = models.save(made, tmp_path / "net.onnx")
    page = tmp_path / "page.html"
    result = run(path, "--target", "cortex-m7", "--html", page)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "alert('x')" in result.stdout
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text and "\x1b" not in text
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in text
    before = page.read_bytes()
    assert run(path, "--target", "cortex-m7", "--html", page).exception is not None
    assert page.read_bytes() == before


def test_equal_kernels_keep_the_nodes_of_each_call(tmp_path: Path) -> None:
    names = ["first", "second", "third"]
    values = ["x", "a", "b", "y"]
    nodes = []
    for number, name in enumerate(names):
        given, made = values[number], values[number + 1]
        nodes += [
            helper.make_node("Conv", [given, f"w{number}"], [f"c{number}"], name=name),
            helper.make_node("Relu", [f"c{number}"], [made], name=f"{name}_relu"),
        ]
    weights = {f"w{n}": models.random(2, 2, 1, 1, seed=n) for n in range(3)}
    shape = [1, 2, 5, 5]
    path = models.save(model(nodes, [value("x", shape)], [value("y", shape)], weights),
                       tmp_path / "net.onnx")  # fmt: skip
    found = mlopsc.fit(path, "cortex-m7", accuracy="strict", io_in_arena=True)
    made = [[node.name for node in layer.nodes] for layer in found.layers if layer.kernel]
    assert made == [[name, f"{name}_relu"] for name in names]
    assert all(layer.macs == 100 and layer.instructions for layer in found.layers)
    assert found.ram.io == 0
    assert max(block.offset + block.nbytes for block in found.blocks) <= found.ram.arena


def test_steps_of_a_loop_count_every_iteration(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            node("MatMul", ["state", "w"], ["product"]),
            node("Relu", ["product"], ["next"]),
            node("Identity", ["condition"], ["again"]),
        ],
        "body",
        [value("count", [], "int64"), value("condition", [], "bool"), value("state", [1, 8])],
        [value("again", [], "bool"), value("next", [1, 8])],
    )
    made = model(
        [helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body, name="again")],
        [value("x", [1, 8])],
        [value("y", [1, 8])],
        {"trips": np.array(5, np.int64), "w": models.random(8, 8)},
    )
    found = mlopsc.fit(models.save(made, tmp_path / "net.onnx"), "cortex-m7")
    kernel = next(layer for layer in found.layers if layer.macs)
    assert (kernel.calls, kernel.macs) == (5, 5 * 64)
    assert [layer.kind for layer in found.layers].count("loop") == 1
    assert kernel.instructions is not None and kernel.instructions > kernel.macs


@pytest.mark.tool("qemu-system-arm")
def test_both_emulators_count_the_same_in_every_layer(
    digits_packages: dict[str, Path], report: FitReport
) -> None:
    found = mlopsc.fit(digits_packages["cortex-m7"], runner="qemu")
    if found.instructions is None:
        pytest.skip("this QEMU takes no plugins")
    assert found.layers == report.layers
    assert found.ram == report.ram


def test_a_build_for_a_microcontroller_ends_with_the_verdict(
    digits_bundle: Path, tmp_path: Path
) -> None:
    target = board(tmp_path, "roomy", flash=1 << 20, ram=1 << 20)
    arguments = ["build", str(digits_bundle), "-t", target, "--unchecked", "-o"]
    result = CliRunner().invoke(cli, [*arguments, str(tmp_path / "one")])
    assert result.exit_code == 0, result.output
    verdict = result.stdout.split("Fit\n")[1]
    assert "fits" in verdict and "about" in verdict and "1024.0 KiB" in verdict
    result = CliRunner().invoke(cli, [*arguments, str(tmp_path / "two"), "--no-fit"])
    assert result.exit_code == 0 and "Fit\n" not in result.stdout


@pytest.mark.slow
@pytest.mark.shared_models
@pytest.mark.parametrize("name", ["kws_fp32", "kws_int8", "ad01_int8", "resnet8_int8"])
def test_real_models_are_described_completely(name: str) -> None:
    found = mlopsc.fit(SHARED_MODELS / "mlperf-tiny" / f"{name}.onnx", "cortex-m4f")
    assert found.instructions is not None
    counted = sum(layer.instructions or 0 for layer in found.layers)
    assert 0.99 * found.instructions < counted <= found.instructions
    kernels: list[Any] = [layer for layer in found.layers if layer.kind == "kernel"]
    assert all(layer.nodes and layer.instructions for layer in kernels)
    onnx_model = onnx.load(SHARED_MODELS / "mlperf-tiny" / f"{name}.onnx")
    products = sum(n.op_type in ("Conv", "MatMul", "Gemm") for n in onnx_model.graph.node)
    assert sum(layer.macs > 0 for layer in kernels) >= products
