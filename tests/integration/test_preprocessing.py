"""Steps and Python functions from the command line to a package that conforms."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import step_cases
from models import node, value
from support import check_refused, run_cli, unchanged

import mlopsc
from mlopsc.bundle import read_bundle
from mlopsc.errors import InputError, MissingToolError, OutputError, SourceError
from mlopsc.schema.common import digest_bytes, digest_file

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
STEPS = """\
inputs:
  image: {dtype: uint8, shape: [batch, 8, 8], layout: NHW}
steps:
  - scale: {divide: 16}
  - layout: {to: NCHW}
output: input
"""
SCRIPT = """\
from onnxscript import FLOAT, UINT8, opset18 as op, script

@script()
def digits(image: UINT8["batch", 8, 8]) -> FLOAT["batch", 1, 8, 8]:
    scaled = op.Div(op.Cast(image, to=1), op.Constant(value_float=16.0))
    input = op.Unsqueeze(scaled, op.Constant(value_ints=[1]))
    return input
"""
TOP = """\
inputs:
  probabilities: {dtype: float32, shape: [batch, 10]}
steps:
  - top_k: {k: 2, labels: names.txt}
    output: {values: chances, classes: digits}
output: [digits, chances]
"""
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with every kind of source."""
    (tmp_path / "pre.yaml").write_text(STEPS)
    (tmp_path / "pre.py").write_text(SCRIPT)
    (tmp_path / "top.yml").write_text(TOP)
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


@pytest.mark.parametrize("family", step_cases.FAMILIES)
def test_every_step_compiles_and_conforms(tmp_path: Path, family: str) -> None:
    cases = step_cases.FAMILIES[family]()
    (tmp_path / "steps.json").write_text(json.dumps(step_cases.document(cases)))
    arrays = step_cases.vectors(cases)
    np.savez(tmp_path / "vectors.npz", **{name: array[None] for name, array in arrays.items()})
    made = run_cli("preprocess", tmp_path / "steps.json", "-o", tmp_path / "steps.onnx")
    assert made.returncode == 0, made.stderr
    bundle = mlopsc.import_model(
        tmp_path / "steps.onnx", tmp_path / "steps.mlb", vectors=tmp_path / "vectors.npz"
    )
    assert bundle.manifest.origin.compared, bundle.manifest.origin.reason
    mlopsc.build(tmp_path / "steps.mlb", "host", tmp_path / "out")
    report = mlopsc.conform(tmp_path / "out" / "host", bundle=tmp_path / "steps.mlb")
    assert report.verdict == "pass", [o for o in report.outputs if o.first_differing is not None]
    step_cases.check(cases, mlopsc.load(tmp_path / "out" / "host")(arrays))


@pytest.mark.parametrize("source", ["pre.yaml", "pre.py", "pre.py:digits"])
def test_one_way_out(sources: Path, source: str) -> None:
    images = np.load(DIGITS / "vectors.npz")["image"]
    given = run_cli(
        "import", "--no-lineage", DIGITS / "digits.onnx", "--preprocess", source, "--vectors",
        DIGITS / "vectors.npz", "-o", "digits.mlb", cwd=sources,
    )  # fmt: skip
    assert given.returncode == 0, given.stderr
    stage = read_bundle(sources / "digits.mlb").manifest.stages[0]
    written = json.loads(
        run_cli("preprocess", source, "-o", "pre.onnx", "--json", cwd=sources).stdout
    )
    assert written["inputs"] == ["image: uint8[batch, 8, 8]"]
    assert written["outputs"] == ["input: float32[batch, 1, 8, 8]"]
    assert written["digest"] == digest_file(sources / "pre.onnx") == stage.source.digest
    producer = "onnxscript " if ".py" in source else "mlopsc steps 1"
    assert stage.source.producer.startswith(producer)

    place = sources / source
    outside, inside = mlopsc.load_preprocess(place), mlopsc.load_preprocess(sources / "digits.mlb")
    assert outside.digest == written["digest"]
    with zipfile.ZipFile(sources / "digits.mlb") as members:
        assert inside.digest == digest_bytes(members.read("preprocess.onnx"))
    assert outside.inputs == inside.inputs and outside.outputs == inside.outputs
    expected = (images.astype(np.float32) / 16)[:, None]
    for pre in (outside, inside, mlopsc.load_preprocess(sources / "pre.onnx")):
        np.testing.assert_array_equal(pre(images)["input"], expected)
        np.testing.assert_array_equal(pre(image=images[3:4])["input"], expected[3:4])
        np.testing.assert_array_equal(pre({"image": images[:, None]})["input"], expected)


def test_postprocessing_gives_strings(sources: Path) -> None:
    images = np.load(DIGITS / "vectors.npz")["image"]
    built = run_cli(
        "build", DIGITS / "digits.onnx", "--no-lineage", "--preprocess", "pre.yaml",
        "--postprocess", "top.yml",
        "--target", "host", "-o", "out", cwd=sources,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    model = mlopsc.load(sources / "out" / "host")
    for digit, image in enumerate(images):
        outputs = model(image=image[None])
        assert outputs["digits"].shape == outputs["chances"].shape == (1, 2)
        assert outputs["digits"][0, 0] == NAMES[digit]
        assert outputs["chances"][0, 0] > outputs["chances"][0, 1]
    post = mlopsc.load_preprocess(sources / "top.yml")
    assert post.outputs[0].labels == tuple(NAMES)
    scores = np.eye(10, dtype=np.float32)[[7, 2]]
    assert post(scores)["digits"][:, 0].tolist() == ["seven", "two"]


def test_what_has_not_changed_comes_from_the_cache(sources: Path) -> None:
    arguments = (
        "--no-lineage",
        DIGITS / "digits.onnx",
        "--preprocess",
        "pre.yaml",
        "-o",
        "digits.mlb",
        "--force",
    )
    env = {"MLOPSC_CACHE_DIR": str(sources / "cache"), "MLOPSC_CACHE_BYTES": "1000000"}
    run_cli("import", *arguments, cwd=sources, env=env)
    (sources / "pre.yaml").write_text("# a comment\n" + STEPS)
    again = run_cli("import", *arguments, cwd=sources, env=env)
    assert "unchanged (cache)" in again.stderr
    (sources / "pre.yaml").write_text(STEPS.replace("16", "17"))
    changed = run_cli("import", *arguments, cwd=sources, env=env)
    assert changed.returncode == 0 and "unchanged" not in changed.stderr


def test_check_says_what_is_wrong_with_a_step(sources: Path) -> None:
    (sources / "bad.yaml").write_text(STEPS.replace("NCHW", "NCW"))
    with unchanged(sources):
        result = run_cli(
            "import",
            "--check",
            "--no-lineage",
            DIGITS / "digits.onnx",
            "--preprocess",
            "bad.yaml",
            cwd=sources,
        )
    assert result.returncode == SourceError.exit_code
    assert "step 2 (layout)" in result.stdout


BROKEN = {
    "syntax": ("def f(:\n", ["line 1", "SyntaxError"]),
    "none": ("x = 1\n", ["no onnxscript function"]),
    "several": (SCRIPT + SCRIPT[SCRIPT.index("@") :].replace("def digits", "def two"),
                ["digits, two", "bad.py:two"]),
    "raises": ("import nothing_of_that_name\n", ["line 1", "ModuleNotFoundError"]),
    "exits": ("print('out')\nraise SystemExit(3)\n", ["line 2", "SystemExit"]),
    "untyped": (SCRIPT.replace(': UINT8["batch", 8, 8]', ""), ["input 'image'", "annotate"]),
    "no result type": (SCRIPT.replace(' -> FLOAT["batch", 1, 8, 8]', ""),
                       ["result 'input'", "annotate", "-> FLOAT["]),
    "no result shape": (SCRIPT.replace(' -> FLOAT["batch", 1, 8, 8]', " -> FLOAT"), ["'->'"]),
    "two results": (SCRIPT.replace("return input", "return input, scaled"), ["number of return"]),
    "dies": ("import os\nos._exit(3)\n", ["status 3", "run it with Python"]),
    "wrong": (SCRIPT.replace('1, 8, 8]:', '1, 9, 8]:'), ["'digits' is not valid"]),
    "foreign": (SCRIPT.replace("op.Div(", "op.Nothing("), ["bad.py"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_errors_in_a_python_file_are_one_clear_error(sources: Path, kind: str) -> None:
    text, mentions = BROKEN[kind]
    (sources / "bad.py").write_text(text)
    with unchanged(sources):
        result = run_cli("preprocess", "bad.py", "-o", "out.onnx", cwd=sources)
    check_refused(result, SourceError, "bad.py", *mentions)
    assert result.stdout == ""


def test_a_function_that_is_not_there(sources: Path) -> None:
    result = run_cli("preprocess", "pre.py:letters", "-o", "out.onnx", cwd=sources)
    check_refused(result, SourceError, "letters", "digits")


def test_without_onnxscript_the_error_says_how_to_install_it(sources: Path) -> None:
    hidden = sources / "hidden"
    (hidden / "onnxscript").mkdir(parents=True)
    (hidden / "onnxscript" / "__init__.py").write_text("raise ImportError('not installed')\n")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    result = run_cli("preprocess", "pre.py", "-o", "o.onnx", cwd=sources, env={"PYTHONPATH": path})
    check_refused(result, MissingToolError, "pre.py", "pip install mlopsc[onnxscript]")


def test_an_onnx_file_is_copied_if_it_holds_all_its_weights(sources: Path) -> None:
    result = run_cli("preprocess", DIGITS / "preprocess.onnx", "-o", "copy.onnx", cwd=sources)
    assert result.returncode == 0, result.stderr
    assert (sources / "copy.onnx").read_bytes() == (DIGITS / "preprocess.onnx").read_bytes()
    model = models.model(
        [node("MatMul", ["x", "w"], ["y"])], [value("x", [1, 40])], [value("y", [1, 40])],
        {"w": models.random(40, 40)},
    )  # fmt: skip
    onnx.save(model, sources / "outside.onnx", save_as_external_data=True, size_threshold=0,
              location="weights.bin")  # fmt: skip
    refused = run_cli("preprocess", "outside.onnx", "-o", "other.onnx", cwd=sources)
    check_refused(refused, SourceError, "outside.onnx", "weights.bin")
    assert not (sources / "other.onnx").exists()


@pytest.mark.parametrize(
    ("source", "output", "mention"),
    [
        ("pre.onnx", "pre.onnx", "the source itself"),
        ("pre.onnx", "./pre.onnx", "the source itself"),
        ("linked.onnx", "pre.onnx", "the source itself"),
        ("pre.py:digits", "pre.py", "ends in .onnx"),
        ("pre.yaml", "pre.yaml", "ends in .onnx"),
        ("pre.yaml", "pre", "ends in .onnx"),
        ("named.py:digits", "named.onnx", "the source itself"),
    ],
)
def test_the_source_is_never_replaced(
    sources: Path, source: str, output: str, mention: str
) -> None:
    (sources / "pre.onnx").write_bytes((DIGITS / "preprocess.onnx").read_bytes())
    (sources / "linked.onnx").symlink_to("pre.onnx")
    (sources / "named.py").symlink_to("named.onnx")
    (sources / "named.onnx").write_text(SCRIPT)
    with unchanged(sources):
        result = run_cli("preprocess", source, "-o", output, "--force", cwd=sources)
    check_refused(result, OutputError, mention)


def test_a_bundle_or_a_package_is_no_graph(sources: Path) -> None:
    mlopsc.import_model(DIGITS / "digits.onnx", sources / "old.mlb", find_lineage=False)
    (sources / "package").mkdir()
    model = DIGITS / "digits.onnx"
    for source, hint in (("old.mlb", "unzip old.mlb preprocess.onnx"), ("package", "bundle")):
        for arguments in (("preprocess", source, "-o", "p.onnx"),
                          ("import", model, "--preprocess", source, "-o", "new.mlb")):  # fmt: skip
            result = run_cli(*arguments, cwd=sources)
            check_refused(result, SourceError, source, hint)
    with pytest.raises(SourceError) as caught:
        mlopsc.load_preprocess(sources / "package")
    assert "the bundle (.mlb) that it was built from" in caught.value.hint


def test_loading_preprocessing_that_is_not_there(tmp_path: Path) -> None:
    mlopsc.import_model(DIGITS / "digits.onnx", tmp_path / "digits.mlb", find_lineage=False)
    with pytest.raises(InputError, match="no preprocessing"):
        mlopsc.load_preprocess(tmp_path / "digits.mlb")


SEVERAL = """\
inputs:
  image: {dtype: uint8, shape: [1, 4, 4, 3], layout: NHWC}
  sound: {dtype: int16, shape: [800]}
steps:
  - scale: {divide: 255}
    input: image
    output: pixels
  - scale: {divide: 32768}
    input: sound
  - mfcc: {sample_rate: 8000, frame_length: 256, mels: 20, coefficients: 8}
    output: bands
output: [pixels, bands]
"""


def test_a_batch_of_several_inputs(tmp_path: Path) -> None:
    (tmp_path / "pre.yaml").write_text(SEVERAL)
    pre = mlopsc.load_preprocess(tmp_path / "pre.yaml")
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    sounds = rng.integers(-9000, 9000, (3, 800)).astype(np.int16)
    together = pre(image=images, sound=sounds)
    assert together["pixels"].shape == (3, 4, 4, 3) and together["bands"].shape == (3, 8, 13)
    for k in range(3):
        alone = pre(image=images[k : k + 1], sound=sounds[k])
        assert alone["bands"].shape == (8, 13)
        np.testing.assert_array_equal(together["pixels"][k : k + 1], alone["pixels"])
        np.testing.assert_array_equal(together["bands"][k], alone["bands"])
    for arrays in ({"image": images, "sound": sounds[:2]}, {"image": images, "sound": sounds[0]}):
        with pytest.raises(InputError, match="number of samples"):
            pre(arrays)
    with pytest.raises(InputError, match="image, sound"):
        pre(images)


def test_arrays_that_do_not_fit_are_refused(sources: Path) -> None:
    pre = mlopsc.load_preprocess(sources / "pre.yaml")
    image = np.zeros((1, 8, 8), np.uint8)
    for arrays in (
        {}, {"picture": image}, {"image": image[:0]}, {"image": image[0]},
        {"image": image.astype(np.float32)}, {"image": np.zeros((2, 2, 8, 8), np.uint8)},
    ):  # fmt: skip
        with pytest.raises(InputError, match="image"):
            pre(arrays)


def test_open_dimensions_of_a_stage_are_those_of_what_it_takes(tmp_path: Path) -> None:
    """Nobody has to bind what the stage before has settled."""
    models.save(models.one_op("Relu", [2, 6]), tmp_path / "net.onnx")
    after = models.model(
        [models.node("Neg", ["y"], ["z"])],
        [models.value("y", ["rows", "columns"])],
        [models.value("z", ["rows", "columns"])],
    )
    models.save(after, tmp_path / "after.onnx")
    bundle = mlopsc.import_model(
        tmp_path / "net.onnx", tmp_path / "net.mlb", postprocess=tmp_path / "after.onnx"
    )
    assert [spec.shape for spec in bundle.manifest.outputs] == [(2, 6)]
    assert bundle.manifest.stages[1].bound == {"rows": 2, "columns": 6}
