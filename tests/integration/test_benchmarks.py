"""What the benchmarks measure with: models that compute something, counts of work, fair turns."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from models import model, node, save, value
from support import REPOSITORY

from mlopsc.errors import MissingToolError
from mlopsc.reference import run_graph

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import accuracy
import cpu
import fingerprint
import machine
from engines import ENGINES, NotAvailableError, Subject, prepare
from report import geometric_mean
from store import Built, build_package
from timing import measure
from zoo import INTEGER_MODELS, MODELS
from zoo.inputs import draw_inputs, multiply_adds

QUICK = ("light_squeezenet", "light_shufflenet", "mobilenet_v2", "gru_tagger", "boosted_trees")


def check_alive(name: str) -> None:
    """Check that a model is valid, made alike twice, and that its outputs depend on its inputs."""
    try:
        proto = MODELS[name]()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    data = proto.SerializeToString()
    assert data == MODELS[name]().SerializeToString()
    onnx.checker.check_model(proto)
    one, other = (run_graph(data, draw_inputs(proto, seed)) for seed in (0, 1))
    for output in one:
        assert np.isfinite(one[output]).all(), output
        scale = float(np.abs(one[output]).max())
        assert np.abs(one[output] - other[output]).max() > 1e-4 * scale, output


@pytest.mark.parametrize("name", QUICK)
def test_model_computes_something(name: str) -> None:
    check_alive(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in MODELS if n not in QUICK])
def test_every_model_computes_something(name: str) -> None:
    check_alive(name)


def test_light_models_hold_random_weights_and_no_constants() -> None:
    proto = MODELS["light_squeezenet"]()
    assert not [n for n in proto.graph.node if n.op_type == "ConstantOfShape"]
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert all(len(np.unique(w)) > w.size // 2 for w in weights.values())


def test_multiply_adds_are_counted() -> None:
    def count(op: str, shapes: dict[str, list[int]], result: list[int], **attributes: Any) -> int:
        inputs, weights = list(shapes), list(shapes)[1:]
        proto = model(
            [node(op, inputs, ["y"], **attributes)],
            [value("x", shapes["x"])],
            [value("y", result)],
            {n: np.zeros(shapes[n], np.float32) for n in weights},
        )
        return multiply_adds(proto)

    assert (
        count("Conv", {"x": [1, 4, 6, 6], "w": [8, 2, 3, 3]}, [1, 8, 4, 4], group=2) == 8 * 16 * 18
    )
    up = {"x": [1, 4, 6, 6], "w": [4, 8, 2, 2]}
    assert count("ConvTranspose", up, [1, 8, 12, 12], strides=[2, 2]) == 4 * 36 * 8 * 4
    assert count("MatMul", {"x": [2, 3, 5], "w": [5, 7]}, [2, 3, 7]) == 2 * 3 * 5 * 7
    assert count("Gemm", {"x": [5, 3], "w": [5, 7]}, [3, 7], transA=1) == 3 * 5 * 7
    recurrent = {"x": [9, 1, 4], "w": [1, 20, 4], "r": [1, 20, 5]}
    assert count("LSTM", recurrent, [9, 1, 1, 5], hidden_size=5) == 9 * 20 * (4 + 5)
    assert count("Relu", {"x": [3]}, [3]) == 0
    assert multiply_adds(MODELS["resnet18"]()) == pytest.approx(1.814e9, rel=1e-3)


def test_calls_take_turns_and_one_of_each_burst_does_not_count() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}  # type: ignore[misc]
    found = measure(calls, rounds=2, seconds=0)
    assert order == list("aabbaabb")
    assert {n: len(times) for n, times in found.items()} == {"a": 2, "b": 2}


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    engine = replace(ENGINES["openvino"], package="mlopsc-no-such-package")
    with pytest.raises(NotAvailableError, match="pip install mlopsc-no-such-package"):
        prepare(Subject(Path("x.onnx"), Built(None), {}), engine, 1)


def test_a_model_that_fails_is_listed_and_not_timed(tmp_path: Path) -> None:
    proto = model(
        [node("Unknown", ["x"], ["y"], domain="example")],
        [value("x", [1])],
        [value("y", [1])],
        domains=("example",),
    )
    built = build_package(save(proto, tmp_path / "bad.onnx"), tmp_path)
    assert built.package is None and built.failure.startswith("import: ")
    with pytest.raises(NotAvailableError, match="Unknown"):
        prepare(Subject(tmp_path / "bad.onnx", built, {}), ENGINES["mlopsc"], 1)


def test_peak_is_one_or_two_vectors_a_cycle() -> None:
    try:
        peak = machine.measure_peak((1,))
    except MissingToolError as error:
        pytest.skip(str(error))
    assert 0.5 < peak.ports < 4.5, peak


def test_cpu_benchmark_measures_and_keeps_packages(tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "figures.json"
    command = ["--model", "^boosted_trees$", "--threads", "1", "--engines", "mlopsc,onnxruntime",
               "--rounds", "1", "--seconds", "0.01", "--work", str(work),
               "--json", str(output)]  # fmt: skip
    built = []
    for _ in range(2):
        result = CliRunner().invoke(cpu.main, command)
        assert result.exit_code == 0, result.output
        built.append((work / "boosted_trees" / "host" / "model.json").stat().st_ino)
    assert built[0] == built[1]
    figures = json.loads(output.read_text())
    (entry,) = figures["results"]
    mine, peer = (entry["seconds"][name] for name in ("mlopsc", "onnxruntime"))
    assert figures["geometric_means"]["1"]["onnxruntime"] == pytest.approx(peer / mine)
    assert entry["unavailable"] == {}
    assert "geometric mean to ONNX Runtime, threads 1" in result.output


@pytest.mark.slow
def test_integers_are_measured_against_what_they_were_in_float32(tmp_path: Path) -> None:
    try:
        INTEGER_MODELS["tiny_kws_int8"]()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    command = ["--int8", "--model", "kws", "--threads", "1", "--rounds", "1", "--seconds", "0.01"]
    output = tmp_path / "figures.json"
    command += ["--work", str(tmp_path / "work"), "--json", str(output)]
    result = CliRunner().invoke(cpu.main, command)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(output.read_text())["results"]
    assert entry["model"] == "tiny_kws_int8"
    assert entry["seconds"].keys() == {"mlopsc", "onnxruntime", "mlopsc_float32"}
    assert not entry["unavailable"]


@pytest.mark.slow
def test_the_quantised_residual_network_is_integers_throughout() -> None:
    proto = INTEGER_MODELS["light_resnet50_int8"]()
    readers = {name: reader for reader in proto.graph.node for name in reader.input}
    for n in proto.graph.node:
        if n.op_type in ("Conv", "Add", "Gemm", "MaxPool"):
            assert readers[n.output[0]].op_type in ("QuantizeLinear", "Relu"), n.name
    assert not any(n.op_type in ("BatchNormalization", "Sum") for n in proto.graph.node)


def test_cpu_benchmark_says_which_models_there_are() -> None:
    result = CliRunner().invoke(cpu.main, ["--model", "no such model"])
    assert result.exit_code == 2
    assert "'no such model'" in result.output and "resnet18" in result.output


def test_exact_convolutions_know_padding_strides_groups_and_dilations(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((6, 2, 3, 2)).astype(np.float32)}
    attributes = {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}
    nodes = [node("Conv", ["x", "w"], ["y"], **attributes)]
    shape = [1, 4, 9, 8]
    made = model(nodes, [value("x", shape)], [value("y", [1, 6, 5, 7])], weights)
    save(made, tmp_path / "m.onnx")
    ((name, layer),) = accuracy.convolutions(tmp_path / "m.onnx")
    assert name == "4 to 6, 3x2, 9x8"
    x = rng.standard_normal(shape).astype(np.float32)
    (result,) = run_graph(layer.SerializeToString(), {"x": x}).values()
    truth = accuracy.exact(x, weights["w"], result, layer.graph.node[0])
    assert np.abs(result[0] - truth).max() < 1e-6 * np.abs(truth).max()


@pytest.mark.slow
def test_errors_of_layers_are_within_their_limits(tmp_path: Path) -> None:
    arguments = ["--model", "light_squeezenet", "--json", str(tmp_path / "errors.json")]
    result = CliRunner().invoke(accuracy.main, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "errors.json").read_text())


def test_fingerprint_benchmark_prints_both_ratios() -> None:
    result = CliRunner().invoke(fingerprint.main, ["--size", "2", "--files", "20"])
    assert result.exit_code == 0, result.output
    for text in ("plain SHA-256", "one file of 2 MiB", "32 files of 1 MiB", "unchanged"):
        assert text in result.stdout
