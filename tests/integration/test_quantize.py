"""Quantisation from end to end: what it costs, who its parent is, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from models import model, node, random, value
from support import check_refused, check_words, run_cli, unchanged

import mlopsc
from mlopsc.api import QuantizeOptions
from mlopsc.bundle import load_graph, read_bundle
from mlopsc.documents import lineage_of
from mlopsc.errors import (
    InputError,
    MlopscError,
    QuantizationError,
    RevokedError,
    SignatureError,
)
from mlopsc.integer import DOMAIN, use_integers
from mlopsc.quantizer.edges import to_integers
from mlopsc.schema.attestation import QUANTIZE_TYPE, provenance_of
from mlopsc.schema.bundle import PROVENANCE_FILE
from mlopsc.schema.quantize import QuantizeReport
from mlopsc.tracing import trace, walk
from mlopsc.trust.artefact import open_artefact
from mlopsc.trust.keys import generate_keys


@pytest.fixture(scope="module")
def quantised_digits(digits_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the quantised example, its report and what the command printed."""
    folder = tmp_path_factory.mktemp("quantised")
    report = folder / "report.json"
    result = run_cli("quantize", digits_bundle, "-o", folder / "q.mlb", "--report", report)
    assert result.returncode == 0, result.stderr
    (folder / "printed").write_text(result.stdout)
    (folder / "warned").write_text(result.stderr)
    return folder


def convs(folder: Path) -> Path:
    """Return a bundle of two convolutions with real inputs."""
    models.save(models.two_convs(), folder / "convs.onnx")
    np.savez(folder / "images.npz", image=random(24, 2, 8, 8, seed=3))
    mlopsc.import_model(
        folder / "convs.onnx", folder / "convs.mlb", vectors=folder / "images.npz", force=True
    )
    return folder / "convs.mlb"


# The example -------------------------------------------------------------------------------------


def test_the_example_keeps_its_accuracy(quantised_digits: Path) -> None:
    report = QuantizeReport.from_file(quantised_digits / "report.json")
    assert report.labelled is not None
    assert (report.labelled.samples, report.labelled.float_correct) == (10, 10)
    assert report.labelled.quantized_correct == 10
    assert [c.label for c in report.labelled.classes] == list(range(10))
    assert all(layer.quantized and 0 < layer.error.relative_error < 0.05 for layer in report.layers)
    assert [layer.op for layer in report.layers] == [
        "Conv", "Conv", "Conv", "Conv", "AveragePool", "Gemm", "Softmax",
    ]  # fmt: skip
    assert report.quantized_bytes < 0.4 * report.float_bytes
    assert 0 < report.outputs[0].error.max_absolute < 0.02
    assert (report.arithmetic, report.kept_float) == ("integer", ())


def test_the_figures_are_those_of_the_bundles(quantised_digits: Path, digits_bundle: Path) -> None:
    report = QuantizeReport.from_file(quantised_digits / "report.json")
    before, after = read_bundle(digits_bundle), read_bundle(quantised_digits / "q.mlb")
    (name,) = (spec.name for spec in after.manifest.outputs)
    pairs = [
        (a.outputs[name], b.outputs[name])
        for a, b in zip(before.vectors, after.vectors, strict=True)
    ]
    largest = max(float(np.abs(a - b).max()) for a, b in pairs)
    assert report.outputs[0].error.max_absolute == pytest.approx(largest, abs=2 / 256)
    right = [int(b.argmax()) for _, b in pairs]
    assert right == list(after.manifest.vectors.labels)


def test_what_is_printed_names_layers_classes_and_doubts(quantised_digits: Path) -> None:
    printed = (quantised_digits / "printed").read_text()
    for word in ("gemm_11", "probabilities", "100.0%", "parent", "Recall on labelled samples"):
        assert word in printed
    assert "from 10 samples only" in (quantised_digits / "warned").read_text()


def test_the_float_bundle_is_the_parent(quantised_digits: Path, digits_bundle: Path) -> None:
    parent, made = open_artefact(digits_bundle), open_artefact(quantised_digits / "q.mlb")
    assert (made.name, made.version) == (parent.name, parent.version)
    bundle = made.require_bundle()
    lineage = lineage_of(bundle.documents)
    assert lineage is not None
    assert [(p.digest, p.relation) for p in lineage.parents] == [(parent.digest, "quantised")]
    assert lineage.datasets == lineage_of(parent.require_bundle().documents).datasets  # type: ignore[union-attr]
    assert {m.slice for m in lineage.metrics} == {"", *(f"class {n}" for n in range(10))}
    how = provenance_of(bundle.documents[PROVENANCE_FILE]).build_definition
    assert how.build_type == QUANTIZE_TYPE
    assert how.external_parameters["activations"] == "int8"
    assert parent.reference in made.ancestors()
    sources = {s.source.digest for s in parent.require_bundle().manifest.stages}
    assert {f"model:{digest}" for digest in sources} <= made.ancestors().keys()
    kept = {s.name: s for s in bundle.manifest.stages}["preprocess"]
    assert kept.source.digest in sources
    assert bundle.manifest.trained_with is not None
    assert parent.digest in {one.digest for one in walk(trace(quantised_digits / "q.mlb"))}


def test_the_report_is_the_one_that_the_provenance_names(quantised_digits: Path) -> None:
    from mlopsc.schema.common import digest_file

    documents = read_bundle(quantised_digits / "q.mlb").documents
    internal = provenance_of(documents[PROVENANCE_FILE]).build_definition.internal_parameters
    assert internal["report"] == digest_file(quantised_digits / "report.json")
    assert internal["bundleSigner"] == "unsigned"


def test_the_same_inputs_give_the_same_bytes(
    quantised_digits: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.mlb"
    result = run_cli("quantize", digits_bundle, "-o", again, "--json", cwd=tmp_path,
                     env={"PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert again.read_bytes() == (quantised_digits / "q.mlb").read_bytes()
    found = json.loads(result.stdout)
    written = json.loads((quantised_digits / "report.json").read_text())
    assert {name: found[name] for name in written} == written


@pytest.mark.slow
def test_a_package_of_it_conforms(quantised_digits: Path, tmp_path: Path) -> None:
    mlopsc.build(quantised_digits / "q.mlb", "host", tmp_path)
    assert mlopsc.conform(tmp_path / "host").verdict == "pass"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", "cortex-m4f", "wasm32-simd"])
def test_mixed_precision_and_integer_edges_conform(tmp_path: Path, target: str) -> None:
    options = QuantizeOptions(keep_float=1, activations="uint8")
    mlopsc.quantize(convs(tmp_path), tmp_path / "mixed.mlb", options=options)
    mlopsc.quantize(
        tmp_path / "convs.mlb", tmp_path / "edges.mlb", options=QuantizeOptions(io="integer")
    )
    for name in ("mixed", "edges"):
        mlopsc.build(tmp_path / f"{name}.mlb", target, tmp_path / name)
        report = mlopsc.conform(tmp_path / name / target)
        assert report.verdict == "pass"
    assert report.outputs[0].max_ulp == 0


# Options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "most"),
    [
        (QuantizeOptions(), 0.03),
        (QuantizeOptions(per_channel=False), 0.05),
        (QuantizeOptions(activations="uint8"), 0.03),
        (QuantizeOptions(activations="int16"), 0.01),
        (QuantizeOptions(weights="int4"), 0.3),
        (QuantizeOptions(method="percentile", percentile=99.99), 0.05),
        pytest.param(QuantizeOptions(method="entropy", samples=4), 0.5, marks=pytest.mark.slow),
    ],
    ids=lambda o: (
        "-".join(map(str, o.model_dump(exclude_defaults=True).values())) or "default"
        if isinstance(o, QuantizeOptions)
        else ""
    ),
)
def test_every_kind_of_quantisation(tmp_path: Path, options: QuantizeOptions, most: float) -> None:
    report = mlopsc.quantize(convs(tmp_path), tmp_path / "q.mlb", options=options)
    assert 0 < report.outputs[0].error.relative_error < most
    assert all(layer.quantized for layer in report.layers)
    bundle = read_bundle(tmp_path / "q.mlb")
    graph = onnx.load_model_from_string(bundle.stages[0].model).graph
    kinds = {onnx.TensorProto.DataType.Name(t.data_type).lower() for t in graph.initializer}
    assert options.weights in kinds
    assert report.options == options


def test_integer_inputs_and_outputs(tmp_path: Path) -> None:
    source = convs(tmp_path)
    whole = tmp_path / "float-edges.mlb"
    mlopsc.quantize(source, whole)
    made = tmp_path / "integer-edges.mlb"
    report = mlopsc.quantize(source, made, options=QuantizeOptions(io="integer"))
    bundle, other = read_bundle(made), read_bundle(whole)
    assert [str(s) for s in bundle.manifest.inputs] == ["image: int8[1, 2, 8, 8]"]
    assert [str(s) for s in bundle.manifest.outputs] == ["scores: int8[1, 5]"]
    (entry,), (leave,) = report.inputs_integer, report.outputs_integer
    for mine, theirs in zip(bundle.vectors, other.vectors, strict=True):
        image = theirs.inputs["image"]
        np.testing.assert_array_equal(mine.inputs["image"], to_integers(image, entry))
        steps = mine.outputs["scores"].astype(np.float32) - leave.zero_point
        np.testing.assert_array_equal(steps * np.float32(leave.scale), theirs.outputs["scores"])


def test_normalisations_stay_in_float_and_gelu_becomes_a_table(tmp_path: Path) -> None:
    made = model(
        [
            node("MatMul", ["x", "w0"], ["m"]),
            node("Add", ["m", "b0"], ["a"]),
            node("LayerNormalization", ["a", "gamma", "beta"], ["n"]),
            node("MatMul", ["n", "w1"], ["p"]),
            node("Add", ["p", "b1"], ["q"]),
            node("Gelu", ["q"], ["g"]),
            node("MatMul", ["g", "w2"], ["y"]),
        ],
        [value("x", [1, 6, 8])],
        [value("y", [1, 6, 4])],
        {"w0": random(8, 8), "b0": random(8), "gamma": random(8, seed=2), "beta": random(8, seed=3),
         "w1": random(8, 8, seed=4), "b1": random(8, seed=5), "w2": random(8, 4)},
        opset=21,
    )  # fmt: skip
    models.save(made, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", random(40, 6, 8))
    report = mlopsc.quantize(
        tmp_path / "m.onnx", tmp_path / "q.mlb", calibration=tmp_path / "x.npy"
    )
    assert report.outputs[0].error.relative_error < 0.05
    assert report.arithmetic == "mixed"
    assert any("computed in float" in warning for warning in report.warnings)
    graph = load_graph(read_bundle(tmp_path / "q.mlb").stages[0])
    use_integers(graph)
    kinds = [node.op_type for node in graph.graph if node.domain == DOMAIN]
    assert sorted(kinds) == ["MatMul", "MatMul", "MatMul", "Table"]
    assert "Erf" not in {node.op_type for node in graph.graph}


def test_an_output_is_not_clamped_for_what_comes_after_it(tmp_path: Path) -> None:
    models.save(models.several(), tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", left=random(40, 2, 3), right=random(40, 2, 4))
    mlopsc.import_model(tmp_path / "m.onnx", tmp_path / "m.mlb", vectors=tmp_path / "x.npz")
    report = mlopsc.quantize(tmp_path / "m.mlb", tmp_path / "q.mlb")
    found = {one.name: one.error.relative_error for one in report.outputs}
    assert found.keys() == {"total", "positive", "same"} and max(found.values()) < 0.02


@pytest.mark.parametrize(
    "options",
    [
        QuantizeOptions(),
        QuantizeOptions(activations="uint8", io="integer"),
        QuantizeOptions(keep_float=1),
        QuantizeOptions(float_layers=("make_c",)),
    ],
    ids=("plain", "uint8-edges", "mixed", "first-in-float"),
)
def test_inputs_with_channels_last(tmp_path: Path, options: QuantizeOptions) -> None:
    made = model(
        [
            node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"]),
            node("Conv", ["r", "v"], ["d"]),
            node("Add", ["d", "d2"], ["e"]),
            node("Flatten", ["e"], ["y"]),
        ],
        [value("x", [1, 6, 6, 2])],
        [value("y", [1, 48])],
        {"w": random(4, 2, 3, 3), "v": random(3, 4, 3, 3)},
    )
    made.graph.node[4].input[1] = "d"
    models.save(made, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", random(40, 6, 6, 2))
    report = mlopsc.quantize(
        tmp_path / "m.onnx", tmp_path / "q.mlb", calibration=tmp_path / "x.npy", options=options
    )
    assert report.outputs[0].error.relative_error < 0.03
    kept = [layer.name for layer in report.layers if not layer.quantized]
    assert len(kept) == len(report.kept_float) == options.keep_float + len(options.float_layers)
    assert report.integers is not None and report.integers.largest_step <= 1


def outlier() -> tuple[onnx.ModelProto, np.ndarray]:
    """Return a network whose middle value has one channel a thousand times larger than the others.

    8 bits for all of them leave nothing of the others, which alone decide.
    """
    wide = np.eye(8, dtype=np.float32)
    wide[0, 0] = 3000.0
    narrow = random(8, 4)
    narrow[0] = 0
    made = model(
        [
            node("MatMul", ["x", "w0"], ["a"]),
            node("Tanh", ["a"], ["b"]),
            node("MatMul", ["b", "w1"], ["c"]),
            node("MatMul", ["c", "w2"], ["d"]),
            node("MatMul", ["d", "w3"], ["y"]),
        ],
        [value("x", [1, 8])],
        [value("y", [1, 3])],
        {"w0": random(8, 8), "w1": wide, "w2": narrow, "w3": random(4, 3)},
    )
    return made, random(40, 1, 8, seed=5)


def test_layers_in_float_save_what_one_value_loses(tmp_path: Path) -> None:
    made, samples = outlier()
    models.save(made, tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=samples)
    mlopsc.import_model(tmp_path / "m.onnx", tmp_path / "m.mlb", vectors=tmp_path / "x.npz")

    def error(name: str, **options: Any) -> tuple[float, tuple[str, ...]]:
        report = mlopsc.quantize(
            tmp_path / "m.mlb", tmp_path / f"{name}.mlb", options=QuantizeOptions(**options)
        )
        kept = [layer.name for layer in report.layers if not layer.quantized]
        assert kept == list(report.kept_float)
        return report.outputs[0].error.relative_error, report.kept_float

    everything, none = error("all")
    assert everything > 0.5 and none == ()
    mixed, kept = error("mixed", keep_float=2)
    assert mixed < everything / 10
    assert kept == ("make_c", "make_d")  # the value that suffers is between these two
    wanted, kept = error("limit", max_error=0.05)
    assert wanted <= 0.05 and set(kept) >= {"make_c", "make_d"} and len(kept) < 5
    named, kept = error("named", float_layers=("make_d", "make_c"))
    assert (named, kept) == (mixed, ("make_c", "make_d"))


def test_harm_to_a_small_class_shows(tmp_path: Path) -> None:
    # The third feature is small beside the others: 8 bits for all three leave nothing of it.
    weights = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    small = np.float32([[0], [0], [2000]])
    made = model(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("MatMul", ["x", "v"], ["b"]),
            node("Concat", ["a2", "b"], ["y"], axis=1),
        ],
        [value("x", [1, 3])],
        [value("y", [1, 3])],
        {"w": weights[:, :2], "v": small},
    )
    made.graph.node[0].output[0] = "a2"
    rng = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 30 + [2] * 3)
    x = rng.uniform(60, 100, (63, 1, 3)).astype(np.float32)
    x[labels == 0, 0, 1] *= -1
    x[labels == 1, 0, 0] *= -1
    x[:, 0, 2] = np.where(labels == 2, 0.12, 0.0)
    models.save(made, tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=x, label=labels)
    mlopsc.import_model(tmp_path / "m.onnx", tmp_path / "m.mlb", vectors=tmp_path / "x.npz")
    report = mlopsc.quantize(tmp_path / "m.mlb", tmp_path / "q.mlb")
    assert report.labelled is not None
    rows = [(c.label, c.float_correct, c.quantized_correct) for c in report.labelled.classes]
    assert rows == [(0, 30, 30), (1, 30, 30), (2, 3, 0)]
    assert "class 2: 0 of 3 recognised, 3 before" in report.warnings
    lineage = lineage_of(read_bundle(tmp_path / "q.mlb").documents)
    assert lineage is not None
    assert [m.value for m in lineage.metrics if m.slice == "class 2"] == [0.0]


def test_data_of_ones_own_is_used_and_named(digits_bundle: Path, tmp_path: Path) -> None:
    with np.load(Path("examples/digits/vectors.npz").absolute()) as vectors:
        images, labels = vectors["image"], vectors["label"]
    (tmp_path / "scans").mkdir()
    for number, image in enumerate(images[:6]):
        np.save(tmp_path / "scans" / f"{number}.npy", image)
    np.savez(tmp_path / "judge.npz", image=images[6:], label=labels[6:])
    report = mlopsc.quantize(
        digits_bundle,
        tmp_path / "q.mlb",
        calibration=tmp_path / "scans",
        evaluation=tmp_path / "judge.npz",
        options=QuantizeOptions(samples=5, sensitivity=True),
        name="small",
        version="2",
    )
    assert (report.calibration.name, report.calibration.samples) == ("scans", 5)
    assert (report.measured.name, report.measured.samples) == ("judge.npz", 4)
    assert report.labelled is not None and [c.label for c in report.labelled.classes] == [
        6,
        7,
        8,
        9,
    ]
    assert all(layer.if_float is not None for layer in report.layers)
    manifest = read_bundle(tmp_path / "q.mlb").manifest
    assert (manifest.name, manifest.version, manifest.vectors.count) == ("small", "2", 10)
    lineage = lineage_of(read_bundle(tmp_path / "q.mlb").documents)
    assert lineage is not None
    data = {(d.name, d.role, d.digest) for d in lineage.datasets}
    assert {("scans", "calibration", report.calibration.digest),
            ("judge.npz", "test", report.measured.digest)} <= data  # fmt: skip


# Trust -------------------------------------------------------------------------------------------


def test_a_signed_parent_is_checked_and_recorded(digits_bundle: Path, tmp_path: Path) -> None:
    source = Path(shutil.copy(digits_bundle, tmp_path))
    generate_keys(tmp_path / "key", kind="ed25519", password=None)
    key = mlopsc.sign(source, tmp_path / "key")
    output = tmp_path / "q.mlb"
    with unchanged(tmp_path), pytest.raises(SignatureError):
        mlopsc.quantize(source, output)
    mlopsc.quantize(source, output, keys=[tmp_path / "key.pub"])
    assert f"key:{key}" in open_artefact(output).ancestors()


def test_what_was_made_of_revoked_data_is_refused(
    digits_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scans").mkdir()
    np.save(tmp_path / "scans" / "a.npy", np.full((8, 8), 3, np.uint8))
    digest = mlopsc.fingerprint(tmp_path / "scans").digest
    generate_keys(tmp_path / "key", kind="ed25519", password=None)
    monkeypatch.setenv("MLOPSC_LOG_DIR", str(tmp_path / "log"))
    words = ("revoke", f"dataset:{digest}", "--reason", "withdrawn", "--key", tmp_path / "key")
    assert run_cli(*words).returncode == 0
    with pytest.raises(RevokedError):
        mlopsc.quantize(digits_bundle, tmp_path / "q.mlb", calibration=tmp_path / "scans")
    assert not (tmp_path / "q.mlb").exists()


# Bad input ---------------------------------------------------------------------------------------


def test_the_command_line_refuses_with_a_reason(digits_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    output = ("-o", tmp_path / "q.mlb")
    with unchanged(tmp_path):
        result = run_cli("quantize", digits_bundle, *output, "--calibration", tmp_path / "empty")
        check_refused(result, QuantizationError, "no samples", tmp_path / "empty")
        result = run_cli("quantize", digits_bundle, *output, "--bind", "batch=2")
        check_refused(result, InputError, "is a bundle")


def test_what_cannot_be_quantised_is_refused(
    quantised_digits: Path, digits_bundle: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((3, 7, 8), np.uint8))
    np.savez(tmp_path / "names.npz", picture=np.zeros((3, 8, 8), np.uint8))
    layers = [layer.name for layer in QuantizeReport.from_file(
        quantised_digits / "report.json").layers]  # fmt: skip
    digits = {"source": digits_bundle}
    cases: list[tuple[dict[str, Any], type[MlopscError], str]] = [
        ({"source": quantised_digits / "q.mlb"}, QuantizationError, "quantised already"),
        ({**digits, "calibration": tmp_path / "no"}, QuantizationError, "No such file"),
        ({**digits, "calibration": tmp_path / "wrong.npy"}, InputError, "[1, 8, 8]"),
        ({**digits, "evaluation": tmp_path / "names.npz"}, InputError, "picture"),
        ({**digits, "float_layers": ("conv",)}, QuantizationError, "conv_0, conv_2"),
        ({**digits, "float_layers": tuple(layers)}, QuantizationError, "every layer"),
        ({**digits, "max_error": 1e-9}, QuantizationError, "the best was"),
        ({**digits, "method": "entropy", "activations": "int16"}, QuantizationError, "entropy"),
    ]
    with unchanged(tmp_path):
        for given, kind, mention in cases:
            options = QuantizeOptions(**{
                n: given.pop(n) for n in list(given) if n in QuantizeOptions.model_fields
            })  # fmt: skip
            with pytest.raises(kind) as caught:
                mlopsc.quantize(output=tmp_path / "q.mlb", options=options, **given)
            check_words(caught.value.message, caught.value.hint, mention)


def test_models_without_layers_and_with_nan_are_refused(tmp_path: Path) -> None:
    models.save(models.one_op("Exp"), tmp_path / "exp.onnx")
    with pytest.raises(QuantizationError, match="no layer"):
        mlopsc.quantize(tmp_path / "exp.onnx", tmp_path / "q.mlb")
    made = model(
        [node("Log", ["x"], ["l"]), node("MatMul", ["l", "w"], ["y"])],
        [value("x", [1, 4])],
        [value("y", [1, 2])],
        {"w": random(4, 2)},
    )
    models.save(made, tmp_path / "log.onnx")
    np.save(tmp_path / "negative.npy", np.full((1, 4), -1, np.float32))
    with pytest.raises(QuantizationError, match="NaN or infinity"):
        mlopsc.quantize(
            tmp_path / "log.onnx", tmp_path / "q.mlb", calibration=tmp_path / "negative.npy"
        )
    assert not (tmp_path / "q.mlb").exists()


def test_random_vectors_are_doubted(tmp_path: Path) -> None:
    models.save(models.two_convs(), tmp_path / "m.onnx")
    report = mlopsc.quantize(tmp_path / "m.onnx", tmp_path / "q.mlb")
    assert any("random vectors" in warning for warning in report.warnings)
    assert read_bundle(tmp_path / "q.mlb").manifest.vectors.origin == "synthesised"


# Real models -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.shared_models
@pytest.mark.parametrize(
    ("name", "low", "high", "most"),
    [("ad01", -85, 15, 0.05), ("kws", -123, 26, 0.15), ("resnet8", 0, 255, 0.2),
     ("vww", 0, 1, 0.02)],
)  # fmt: skip
def test_models_of_mlperf_tiny(
    shared_models: Path, tmp_path: Path, name: str, low: float, high: float, most: float
) -> None:
    source = shared_models / "mlperf-tiny" / f"{name}_fp32.onnx"
    shape = [d.dim_value for d in onnx.load(source).graph.input[0].type.tensor_type.shape.dim][1:]
    drawn = np.random.default_rng(1).uniform(low, high, (48, *shape)).astype(np.float32)
    np.save(tmp_path / "data.npy", drawn)
    report = mlopsc.quantize(
        source,
        tmp_path / "q.mlb",
        calibration=tmp_path / "data.npy",
        options=QuantizeOptions(io="integer"),
    )
    assert report.arithmetic == "integer"
    assert all(layer.quantized for layer in report.layers)
    assert report.outputs[0].error.relative_error < most
    assert report.quantized_bytes < 0.4 * report.float_bytes
    assert report.integers is not None and report.integers.largest_step <= 1
    bundle = read_bundle(tmp_path / "q.mlb")
    assert {s.dtype for s in (*bundle.manifest.inputs, *bundle.manifest.outputs)} == {"int8"}
