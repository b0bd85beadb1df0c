"""Steps: what they compute, that they are one file of the same bytes, and what errors say."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import step_cases
import yaml
from onnx import helper
from support import REPOSITORY, check_words

from mlopsc.errors import SourceError
from mlopsc.reference import run_graph
from mlopsc.schema.common import digest_bytes
from mlopsc.schema.steps import STEP_NAMES, Steps
from mlopsc.steps import is_source, script_parts, steps_example
from mlopsc.steps.convert import METADATA_KEY, steps_to_onnx, to_onnx
from mlopsc.yaml_file import parse_yaml

CASES = [case for make in step_cases.FAMILIES.values() for case in make()]
IMAGE = {"dtype": "uint8", "shape": [1, 8, 6, 3], "layout": "NHWC"}


def write(folder: Path, steps: Any, **more: Any) -> str:
    """Write a steps file with one input, an image, and return its path."""
    document = {"inputs": {"image": IMAGE}, "steps": steps, "output": "y", **more}
    path = folder / "pre.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_steps_compute_what_numpy_and_scipy_do(case: step_cases.Case) -> None:
    steps = Steps.model_validate_json(json.dumps(step_cases.document([case])))
    outputs = run_graph(steps_to_onnx(steps, "case"), step_cases.vectors([case]))
    step_cases.check([case], outputs)


def test_every_step_has_a_case() -> None:
    used = {name for case in CASES for step in case.steps for name in step}
    assert used == set(STEP_NAMES)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.layout in ("NHWC", "NCHW") and case.name != "layout_gone"],
    ids=lambda case: case.name,
)
def test_the_batch_may_be_open(case: step_cases.Case) -> None:
    document = step_cases.document([case])
    for given in document["inputs"].values():
        given["shape"][0] = "batch"
    model = steps_to_onnx(Steps.model_validate_json(json.dumps(document)), "case")
    step_cases.check([case], run_graph(model, step_cases.vectors([case])))
    for value in onnx.load_model_from_string(model).graph.output:
        first, *others = value.type.tensor_type.shape.dim
        assert first.dim_param == "batch" and all(d.HasField("dim_value") for d in others)


def test_suppression_keeps_what_the_operator_of_onnx_keeps() -> None:
    case = next(case for case in CASES if case.name == "nms_yxyx")
    boxes, scores = case.inputs["boxes"], case.inputs["scores"]
    node = helper.make_node("NonMaxSuppression", ["b", "s", "most", "iou", "least"], ["kept"])
    graph = helper.make_graph(
        [node], "nms",
        [helper.make_tensor_value_info("b", 1, boxes.shape),
         helper.make_tensor_value_info("s", 1, scores.transpose(0, 2, 1).shape)],
        [helper.make_tensor_value_info("kept", 7, ["n", 3])],
        [onnx.numpy_helper.from_array(np.array([v], t), n) for v, t, n in
         ((100, np.int64, "most"), (0.3, np.float32, "iou"), (0.4, np.float32, "least"))],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    kept = run_graph(
        model.SerializeToString(), {"b": boxes, "s": scores.transpose(0, 2, 1).copy()}
    )["kept"]
    for sample in range(len(boxes)):
        rows = [(int(k), float(scores[sample, b, k])) for n, k, b in kept if n == sample]
        count = case.expected["count"][sample]
        found = zip(
            case.expected["classes"][sample, :count],
            case.expected["scores"][sample, :count],
            strict=True,
        )
        assert sorted(rows) == sorted((int(k), float(s)) for k, s in found)


def test_the_example_is_valid_and_small(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(steps_example())
    model = to_onnx(str(path))
    image = np.random.default_rng(1).integers(0, 256, (1, 480, 640, 3)).astype(np.uint8)
    given = run_graph(model, {"image": image})["input"]
    assert given.shape == (1, 3, 224, 224) and len(model) < 10_000
    assert "#" in steps_example()


def test_the_same_steps_are_the_same_bytes(tmp_path: Path) -> None:
    document = json.loads(json.dumps(step_cases.document(step_cases.images())))
    (tmp_path / "a.json").write_text(json.dumps(document, indent=1))
    again = yaml.safe_dump(document, sort_keys=False)  # the order of inputs is theirs
    (tmp_path / "a.yaml").write_text(f"# another form\n{again}")
    code = "import sys; from mlopsc.steps.convert import convert_file; convert_file(*sys.argv[1:])"
    path = os.pathsep.join(sys.path)
    for name, seed in (("a.json", "1"), ("a.yaml", "2")):
        subprocess.run(
            [sys.executable, "-c", code, name, f"{name}.onnx"],
            cwd=tmp_path, check=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": path},
        )  # fmt: skip
    assert (tmp_path / "a.json.onnx").read_bytes() == (tmp_path / "a.yaml.onnx").read_bytes()


def test_the_file_says_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("kühl\nwarm\nheiß\n")
    steps = [{"argmax": {"axis": "C", "labels": "names.txt"}}]
    model = onnx.load_model_from_string(to_onnx(write(tmp_path, steps)))
    assert (model.producer_name, model.producer_version) == ("mlopsc steps", "1")
    (entry,) = model.metadata_props
    kept = json.loads(entry.value)
    assert entry.key == METADATA_KEY
    assert kept["steps"] == [{"argmax": {"axis": "C", "labels": ["kühl", "warm", "heiß"]}}]
    again = steps_to_onnx(Steps.model_validate_json(entry.value), "again")
    assert again == model.SerializeToString(deterministic=True)


# Who has noted the digest of a file must get it from later versions: what changes a digest changes
# schema.steps.SCHEMA_VERSION, too.
DIGESTS = {
    "example": "sha256:61e31d33db5d7f587bf4e826e9868186ac22a7f91b9c640b84626fbeead805c4",
    "nms_few": "sha256:e49682ab2d85238206ae3672c5831b82a7152638e11c11d0330e764a2fa28dd1",
}


def test_digests_stay(tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(steps_example())
    case = next(case for case in CASES if case.name == "nms_few")
    (tmp_path / "nms_few.yaml").write_text(json.dumps(step_cases.document([case])))
    found = {name: digest_bytes(to_onnx(str(tmp_path / f"{name}.yaml"))) for name in DIGESTS}
    assert found == DIGESTS


def test_what_the_documentation_shows_can_be_converted(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "preprocessing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(yaml|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    sources = [(kind, text) for kind, text in blocks if kind == "yaml" or "@script" in text]
    assert [kind for kind, _ in sources] == ["yaml", "yaml", "python", "yaml", "yaml"]
    for kind, text in sources:
        path = tmp_path / ("shown.py" if kind == "python" else "shown.yaml")
        path.write_text(text)
        assert onnx.load_model_from_string(to_onnx(str(path))).graph.output


def test_words_of_yaml_are_what_they_look_like(tmp_path: Path) -> None:
    path = tmp_path / "post.yaml"
    path.write_text(
        "inputs: {x: {dtype: float32, shape: [2]}}\n"
        "steps: [{standardise: {epsilon: 1e-5}}, {threshold: {value: 0, labels: [no, yes]}}]\n"
        "output: y\n"
    )
    found = run_graph(to_onnx(str(path)), {"x": np.float32([1, 2])})["y"]
    assert found.tolist() == ["no", "yes"]


def test_numbers_of_yaml_are_decimal() -> None:
    text = "[10, -3, +4, 0, 1.5, .5, 1e3, 010, 0x10, 1:30, 1_000, 2026-01-01, .inf, on, ~, true]"
    given = parse_yaml(text)
    assert given[:7] == [10, -3, 4, 0, 1.5, 0.5, 1000.0]
    assert [type(x) for x in given[:7]] == [int] * 4 + [float] * 3
    assert given[7:] == [
        "010", "0x10", "1:30", "1_000", "2026-01-01", ".inf", "on", None, True,
    ]  # fmt: skip


def test_aliases_are_refused_before_they_grow(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]" for n in range(1, 12))]
    (tmp_path / "pre.yaml").write_text("\n".join(rows))
    begin = time.monotonic()
    with pytest.raises(SourceError, match=r"alias \(\*a0\)"):
        to_onnx(str(tmp_path / "pre.yaml"))
    assert time.monotonic() - begin < 2


def test_what_must_be_converted_is_told_by_its_name() -> None:
    for name in ("a.yaml", "a.yml", "a.json", "a.py", "b/a.py:f", "a.YAML"):
        assert is_source(Path(name)), name
    for name in ("a.onnx", "a", "a.py:", "a.py:1f", "a.onnx:f"):
        assert not is_source(Path(name)), name
    assert script_parts(Path("b/a.py:f")) == (Path("b/a.py"), "f")


WRONG: dict[str, tuple[Any, list[str]]] = {
    "unknown step": ([{"rezise": {}}], ["step 1", "'rezise'", "resize"]),
    "two steps": ([{"scale": {}, "cast": {}}], ["step 1", "scale", "cast"]),
    "unknown parameter": ([{"scale": {"times": 2}}], ["step 1 (scale), times", "not 2"]),
    "a word for a number": ([{"scale": {"divide": "x"}}], ["step 1 (scale), divide", "'x'"]),
    "a truth for a number": ([{"scale": {"divide": True}}], ["step 1 (scale), divide", "True"]),
    "size": ([{"resize": {"height": 0, "width": 2}}], ["step 1 (resize), height", "not 0"]),
    "missing": ([{"resize": {"height": 2}}], ["step 1 (resize), width", "required"]),
    "zero": ([{"scale": {"divide": 0}}], ["step 1 (scale)", "divide is 0"]),
    "crop": ([{"crop": {"height": 9, "width": 2}}], ["step 1 (crop)", "height is 9", "8"]),
    "crop at": ([{"crop": {"height": 4, "width": 2, "top": 5}}], ["height is 4 from 5", "8"]),
    "pad": ([{"pad": {"height": 4, "width": 4}}], ["step 1 (pad)", "8", "4"]),
    "pad forms": ([{"pad": {"height": 4, "top": 4}}], ["step 1 (pad)", "'height' and 'width'"]),
    "pad value": ([{"pad": {"top": 1, "value": 300}}], ["value is 300", "0 to 255"]),
    "reflect": ([{"pad": {"top": 8, "mode": "reflect"}}], ["8 elements", "fewer"]),
    "channels": ([{"normalise": {"mean": [1, 2], "std": 1}}], ["mean has 2 numbers", "3"]),
    "deviation": ([{"normalise": {"mean": 1, "std": [1, 0, 1]}}], ["std is", "other than 0"]),
    "colour": ([{"colour": {"from": "GREY", "to": "RGB"}}], ["from is GREY", "3 channels"]),
    "no layout": ([{"reshape": {"shape": [1, 144]}}, {"crop": {"height": 1, "width": 1}}],
                  ["step 2 (crop)", "uint8[1, 144]", "layout"]),
    "axis": ([{"softmax": {"axis": 4}}], ["axis 4", "-4 to 3"]),
    "letter": ([{"softmax": {"axis": "T"}}], ["'T'", "NHWC"]),
    "layout": ([{"layout": {"to": "NCW"}}], ["'H'", "size 1"]),
    "transpose": ([{"transpose": {"axes": [0, 1, 1, 3]}}], ["0 to 3, each once"]),
    "reshape": ([{"reshape": {"shape": [5, -1]}}], ["144 elements"]),
    "clip": ([{"clip": {"min": 0.5}}], ["min is 0.5", "uint8"]),
    "too large": ([{"scale": {"multiply": 1e39}}], ["1e+39", "float32"]),
    "too small": ([{"normalise": {"mean": 0, "std": 1e-50}}], ["1e-50", "float32"]),
    "clip order": ([{"clip": {"min": 2, "max": 1}}], ["min is 2 and max is 1"]),
    "one_hot": ([{"scale": {}}, {"one_hot": {"depth": 2}}], ["step 2 (one_hot)", "integers"]),
    "slice": ([{"slice": {"axis": 1, "start": 8}}], ["start is 8", "8 elements"]),
    "dequantise": ([{"scale": {}}, {"dequantise": {"scale": 1}}], ["step 2", "float32"]),
    "zero point": ([{"dequantise": {"scale": 1, "zero_point": 256}}], ["256", "0 to 255"]),
    "top_k": ([{"top_k": {"k": 4}}], ["k is 4", "3 elements"]),
    "labels": ([{"argmax": {"labels": ["a", "b"]}}], ["2 labels", "3 classes"]),
    "label file": ([{"argmax": {"labels": "../names.txt"}}], ["'../names.txt'", "in the folder"]),
    "labels of threshold": ([{"threshold": {"value": 1, "labels": ["a"]}}], ["labels", "2"]),
    "integers as sound": ([{"log_mel": {"sample_rate": 8000}}], ["floats", "32768"]),
    "nms input": ([{"nms": {"max_detections": 1}}], ["boxes, scores"]),
    "one input for two": ([{"nms": {"max_detections": 1}, "input": "image"}], ["boxes, scores"]),
    "unknown value": ([{"scale": {}, "input": "picture"}], ["'picture'", "image"]),
    "name twice": ([{"scale": {}, "output": "image"}], ["'image'", "already"]),
    "name of a result": ([{"top_k": {"k": 1}, "output": {"best": "b"}}], ["values, classes"]),
    "number": ([{"resize": {"height": 10**20, "width": 3}}], ["(resize), height", "2147483647"]),
    "no number": ([{"pad": {"axis": 1, "before": 10**24}}], ["step 1 (pad), before", "2147483647"]),
    "place": ([{"one_hot": {"depth": 2, "axis": -(10**20)}}], ["(one_hot), axis", "-2147483647"]),
    "large": ([{"resize": {"height": 10**6, "width": 10**6}}], ["elements", "2147483647"]),
    "deep": ([{"one_hot": {"depth": 10**9}}], ["144000000000 elements"]),
    "wide": ([{"pad": {"axis": 1, "before": 2**31 - 1}}], ["elements", "2147483647"]),
    "one name for two": ([{"top_k": {"k": 1}, "output": "b"}], ["values, classes"]),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_errors_name_the_step_and_the_value(tmp_path: Path, what: str) -> None:
    steps, mentions = WRONG[what]
    with pytest.raises(SourceError) as caught:
        to_onnx(write(tmp_path, steps))
    check_words(caught.value.message, caught.value.hint, "pre.yaml", "step", *mentions)


ODD = ("int2", "uint4", "float8_e4m3fn", "float4_e2m1fn", "bfloat16", "float16", "uint64", "bool")


@pytest.mark.parametrize("name", STEP_NAMES)
def test_odd_types_are_done_or_refused_with_the_step(name: str) -> None:
    case = next(case for case in CASES if case.steps and name in case.steps[0])
    for dtype in ODD:
        document = step_cases.document([dataclasses.replace(case, steps=case.steps[:1])])
        for given in document["inputs"].values():
            given["dtype"] = dtype
        steps = Steps.model_validate_json(json.dumps(document))
        try:
            onnx.checker.check_model(steps_to_onnx(steps, "odd.yaml"), full_check=True)
        except SourceError as error:
            check_words(error.message, error.hint, f"'odd.yaml', step 1 ({name})", dtype)


def test_types_that_no_operator_has_are_refused(tmp_path: Path) -> None:
    small = {"x": {"dtype": "int2", "shape": [4]}}
    for steps in ([], [{"cast": {"dtype": "int2"}}], [{"cast": {"dtype": "int8"}}]):
        with pytest.raises(SourceError, match="int2"):
            to_onnx(write(tmp_path, steps, inputs=small))
    labelled = [{"argmax": {"labels": ["a", "b", "c"]}}, {"scale": {}}]
    with pytest.raises(SourceError, match=r"step 2 \(scale\): the value is string"):
        to_onnx(write(tmp_path, labelled))


def test_names_of_a_user_are_not_those_that_steps_make(tmp_path: Path) -> None:
    for name in ("step1_scale_mul_2", "give_y", "constant"):
        path = write(tmp_path, [{"scale": {"multiply": 2}}], inputs={name: IMAGE})
        model = onnx.load_model_from_string(to_onnx(path))
        made = [output for node in model.graph.node for output in node.output]
        assert all(output.startswith("/step1/scale/") for output in made if output != "y")
    for inputs, output in (({"/step1/scale/mul_2": IMAGE}, "y"), ({"a\nb": IMAGE}, "y"),
                           ({"x": IMAGE}, "/y")):  # fmt: skip
        with pytest.raises(SourceError, match=r"pre\.yaml.*printable.*begin with '/'"):
            to_onnx(write(tmp_path, [{"scale": {}}], inputs=inputs, output=output))
    with pytest.raises(SourceError, match=r"output: .*\['/y'\]"):
        to_onnx(write(tmp_path, [{"scale": {}, "output": "/y"}], output=["/y"]))


def test_an_input_that_nothing_can_hold_is_refused(tmp_path: Path) -> None:
    large = {"x": {"dtype": "uint8", "shape": [65536, 32768]}}
    with pytest.raises(SourceError, match=r"inputs: a value of shape.* 2147483648 elements"):
        to_onnx(write(tmp_path, [{"scale": {}}], inputs=large))


AUDIO: dict[str, tuple[dict[str, Any], list[str]]] = {
    "short": ({"frame_length": 2048, "centre": False}, ["1000 samples", "2048"]),
    "mirror": ({"frame_length": 2048, "pad": "reflect"}, ["1000 samples", "1024"]),
    "window": ({"frame_length": 256, "window_length": 300}, ["window_length is 300", "256"]),
    "frequencies": ({"f_min": 4000}, ["f_min is 4000"]),
    "nyquist": ({"f_max": 5000}, ["f_max is 5000", "4000"]),
    "table": ({"frame_length": 5792, "hop_length": 512}, ["frame_length is 5792", "table"]),
}


@pytest.mark.parametrize("what", AUDIO)
def test_errors_of_spectrograms(tmp_path: Path, what: str) -> None:
    parameters, mentions = AUDIO[what]
    sound = {"sound": {"dtype": "float32", "shape": [1, 1000]}}
    path = write(tmp_path, [{"log_mel": {"sample_rate": 8000, **parameters}}], inputs=sound)
    with pytest.raises(SourceError) as caught:
        to_onnx(path)
    check_words(caught.value.message, caught.value.hint, "step 1 (log_mel)", *mentions)


@pytest.mark.parametrize("length", [4096, 5791])
def test_long_frames(tmp_path: Path, length: int) -> None:
    x = step_cases.signal(1.0)
    given = {"sound": {"dtype": "float32", "shape": list(x.shape)}}
    step = {"sample_rate": 8000, "frame_length": length, "mels": 40, "log": "none"}
    found = run_graph(to_onnx(write(tmp_path, [{"log_mel": step}], inputs=given)), {"sound": x})
    expected = step_cases.mel_spectrogram(x, length, "hann", length, length // 4, "constant", 40)
    np.testing.assert_allclose(found["y"], expected, rtol=0, atol=1e-5 * expected.max())


def test_one_frame_needs_no_signal_behind_it(tmp_path: Path) -> None:
    given = {"sound": {"dtype": "float32", "shape": [1, 600]}}
    path = write(tmp_path, [{"frame": {"length": 500, "hop": 10**9}}], inputs=given)
    x = np.arange(600, dtype=np.float32)[None]
    model = to_onnx(path)
    assert run_graph(model, {"sound": x})["y"].tolist() == x[:, None, :500].tolist()
    assert "Pad" not in {node.op_type for node in onnx.load_model_from_string(model).graph.node}


FILES = {
    "no mapping": ("- a\n", ["mapping"]),
    "no YAML": ("steps: [\n", ["not valid YAML"]),
    "a key twice": ("output: a\noutput: b\n", ["'output' is there twice"]),
    "an object": ("inputs: !!python/object:os.system {}\n", ["not valid YAML"]),
    "a date": ("output: !!timestamp 2026-01-01\n", ["JSON has no word"]),
    "no output": ("inputs: {x: {dtype: float32, shape: [2]}}\n", ["output", "required"]),
    "no inputs": ("inputs: {}\noutput: y\n", ["inputs"]),
    "shape": ("inputs: {x: {dtype: float32, shape: [2, n]}}\noutput: y\n", ["'n'", "first axis"]),
    "layout": (
        "inputs: {x: {dtype: float32, shape: [2], layout: NC}}\noutput: y\n", ["layout is NC"]
    ),
    "type": ("inputs: {x: {dtype: float, shape: [2]}}\noutput: y\n", ["inputs.x.dtype", "'float'"]),
    "output is input": ("inputs: {x: {dtype: float32, shape: [2]}}\noutput: x\n", ["'x'"]),
    "output of nothing": (
        "inputs: {x: {dtype: float32, shape: [2]}}\noutput: [y]\n", ["no step gives 'y'"]
    ),
    "which input": (
        "inputs: {a: {dtype: float32, shape: [2]}, b: {dtype: float32, shape: [2]}}\n"
        "steps: [{scale: {}}]\noutput: y\n", ["step 1 (scale)", "a, b"],
    ),
    "version": ("schema_version: 2\noutput: y\ninputs: {}\n", ["schema_version", "not 2"]),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_errors_of_files(tmp_path: Path, what: str) -> None:
    text, mentions = FILES[what]
    (tmp_path / "pre.yaml").write_text(text)
    with pytest.raises(SourceError) as caught:
        to_onnx(str(tmp_path / "pre.yaml"))
    check_words(caught.value.message, caught.value.hint, "pre.yaml", *mentions)


def test_json_is_read_strictly(tmp_path: Path) -> None:
    for text in ('{"output": 1, "output": 2}', "{", "output: y"):
        (tmp_path / "pre.json").write_text(text)
        with pytest.raises(SourceError, match="not valid JSON"):
            to_onnx(str(tmp_path / "pre.json"))
    with pytest.raises(SourceError, match="cannot read"):
        to_onnx(str(tmp_path / "nothing.yaml"))
