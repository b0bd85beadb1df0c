"""Where a model came from: written down once, carried by everything made of it, and traced back."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
import yaml
from support import check_refused, run_cli, unchanged

import mlopsc
from mlopsc.errors import BrokenPackageError, LineageError, LockstepError, SignatureError
from mlopsc.lineage_file import load_lineage
from mlopsc.lineage_init import without_credentials
from mlopsc.schema.common import digest_file
from mlopsc.schema.lineage import Lineage
from mlopsc.tracing import Node, trace, walk

DIGEST = "sha256:" + "5" * 64
FULL: dict[str, Any] = {
    "schema_version": 1,
    "model": {
        "licence": "Apache-2.0",
        "owner": "vision team",
        "description": "Tells cats from dogs.",
        "task": "image-classification",
        "architecture": "convolutional neural network",
        "intended_use": ["sorting photographs"],
        "limitations": ["fails in the dark"],
        "ethical_considerations": ["none are known"],
    },
    "datasets": [
        {
            "name": "pets",
            "version": "2026-03",
            "digest": DIGEST,
            "licence": "CC-BY-4.0",
            "sensitivity": "public",
            "owner": "data team",
            "role": "training",
            "url": "https://example.org/pets",
        },
        {"name": "pets", "version": "2026-03", "digest": DIGEST, "role": "test"},
    ],
    "code": {
        "repository": "https://example.org/train.git",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "entry_point": "train.py",
    },
    "configuration": {"epochs": 20, "optimiser": {"name": "adam", "rate": 0.003}},
    "frameworks": [{"name": "torch", "version": "2.13.0"}],
    "metrics": [{"name": "accuracy", "value": 0.93, "dataset": "pets", "slice": "cats"}],
    "parents": [{"name": "backbone", "digest": DIGEST, "relation": "fine-tuned"}],
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.save(models.several(), tmp_path / "model.onnx")


def write(folder: Path, document: Any) -> Path:
    path = folder / "lineage.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def kinds(node: Node) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for part in walk(node):
        found.setdefault(part.kind, []).append(part)
    return found


# From the file to the device ---------------------------------------------------------------------


def test_a_package_leads_back_to_everything(model: Path, tmp_path: Path) -> None:
    write(tmp_path, FULL)
    mlopsc.import_model(model, tmp_path / "m.mlb", version="3")
    mlopsc.build(tmp_path / "m.mlb", "host", tmp_path / "out")
    mlopsc.conform(tmp_path / "out" / "host")
    (tmp_path / "m.mlb").unlink()  # the package alone is enough
    found = kinds(trace(tmp_path / "out" / "host"))
    assert [node.digest for node in found["dataset"]] == [DIGEST, DIGEST]
    assert found["dataset"][0].facts == {
        "role": "training",
        "licence": "CC-BY-4.0",
        "sensitivity": "public",
        "owner": "data team",
        "url": "https://example.org/pets",
    }
    (code,) = found["code"]
    assert code.name == "https://example.org/train.git"
    assert code.facts["commit"] == FULL["code"]["commit"]
    assert code.facts["dirty"] == "no"
    (parent,) = found["model"]
    assert (parent.name, parent.digest, parent.facts) == (
        "backbone",
        DIGEST,
        {"relation": "fine-tuned", "its history": "is in its own bundle: trace that"},
    )
    assert [node.name for node in found["metric"]] == ["accuracy = 0.93"]
    assert {"torch 2.13.0", "apache-tvm 0.27.0.post1"} <= {node.name for node in found["tool"]}
    (graph,) = found["graph"]
    assert graph.digest == digest_file(model)
    (package,) = found["package"]
    library = tmp_path / "out" / "host" / "lib" / "libmodel_model.a"
    libraries = {k: v for k, v in package.facts.items() if k.startswith("lib/")}
    if library.is_file():
        assert libraries["lib/libmodel_model.a"] == digest_file(library)
    for name, digest in libraries.items():
        assert digest == digest_file(tmp_path / "out" / "host" / name)
    assert {"epochs": "20"}.items() <= next(
        node.facts.items() for node in found["decision"] if node.name == "configuration"
    )
    assert any(node.facts.get("verdict") == "pass" for node in found["test"])


def test_a_bundle_leads_back_too(model: Path, tmp_path: Path) -> None:
    write(tmp_path, FULL)
    mlopsc.import_model(model, tmp_path / "m.mlb")
    top = trace(tmp_path / "m.mlb")
    assert top.kind == "bundle"
    assert {"dataset", "code", "model", "metric", "tool", "test", "decision"} <= set(kinds(top))


def test_trace_as_tree_json_and_picture(model: Path, tmp_path: Path) -> None:
    write(tmp_path, FULL)
    mlopsc.import_model(model, tmp_path / "m.mlb")
    text = run_cli("trace", tmp_path / "m.mlb")
    assert text.returncode == 0, text.stderr
    for word in (DIGEST, "pets 2026-03", "sensitivity: public", FULL["code"]["commit"], "backbone"):
        assert word in text.stdout
    as_json = run_cli("trace", tmp_path / "m.mlb", "--json", "--picture", tmp_path / "a.svg")
    assert json.loads(as_json.stdout) == trace(tmp_path / "m.mlb").to_dict()
    run_cli("trace", tmp_path / "m.mlb", "--picture", tmp_path / "b.svg")
    picture = (tmp_path / "a.svg").read_text()
    assert picture == (tmp_path / "b.svg").read_text(), "the same tree, the same picture"
    words = "".join(ET.fromstring(picture).itertext()).replace("\xa0", " ")  # noqa: S314 - ours
    assert "pets 2026-03" in words
    assert DIGEST in words
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "").replace(
        "https://example.org", ""
    )


def test_trace_refuses_a_package_with_the_history_of_another(
    digits_packages: dict[str, Path], model: Path, tmp_path: Path
) -> None:
    write(tmp_path, FULL)
    mlopsc.build(model, "host", tmp_path / "out")
    package = tmp_path / "out" / "host"
    other = digits_packages["host"] / "bundle" / "lineage.json"
    (package / "bundle" / "lineage.json").write_bytes(other.read_bytes())
    check_refused(run_cli("trace", package), BrokenPackageError, "bundle/lineage.json", "digest")


def test_history_is_part_of_the_digest(model: Path, tmp_path: Path) -> None:
    digests = set()
    for value in (0.93, 0.94):
        FULL["metrics"][0]["value"] = value
        write(tmp_path, FULL)
        digests.add(mlopsc.import_model(model, tmp_path / f"{value}.mlb").digest)
    FULL["metrics"][0]["value"] = 0.93
    assert len(digests) == 2


# The file ----------------------------------------------------------------------------------------


def test_the_file_beside_the_model_is_taken(model: Path, tmp_path: Path) -> None:
    write(tmp_path, FULL)
    found = mlopsc.import_model(model, tmp_path / "found.mlb")
    assert b"pets" in found.documents["lineage.json"]
    result = run_cli("import", model, "-o", tmp_path / "not.mlb", "--no-lineage")
    assert result.returncode == 0, result.stderr
    assert b"pets" not in (tmp_path / "not.mlb").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    elsewhere = write(tmp_path / "elsewhere", {"datasets": [{"name": "others"}]})
    result = run_cli("import", model, "-o", tmp_path / "other.mlb", "--lineage", elsewhere)
    assert result.returncode == 0, result.stderr
    data = (tmp_path / "other.mlb").read_bytes()
    assert b"others" in data
    assert b"pets" not in data


@pytest.mark.parametrize(
    ("text", "mention"),
    [
        ("datasets: [{}]", "datasets.0.name"),
        ("datasets: [{name: a, digest: md5:1}]", "datasets.0.digest"),
        ("datasets: [{name: a, sensitivity: secret}]", "secret"),
        ("datasets: [{name: a}, {name: a}]", "twice"),
        ("colour: red", "colour"),
        ("metrics: [{name: a, value: .nan}]", "metrics.0.value"),
        ("code: {commit: abc}", "code.commit"),
        ("schema_version: 2", "schema_version"),
        ("model: [", "YAML"),
        ("a: 1\na: 2", "twice"),
        ("a: &x [1]\nb: *x", "alias"),
        ("!!python/object/apply:os.system ['touch owned']", "YAML"),
        ("- 1", "the file"),
        ("1: 2", "key"),
        ("\0", "YAML"),
        ("a: " + "[" * 5000, "YAML"),
    ],
)
def test_a_wrong_file_is_refused(text: str, mention: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "lineage.yaml").write_text(text, encoding="utf-8")
    with unchanged(tmp_path):
        result = run_cli("import", model, "-o", tmp_path / "m.mlb", cwd=tmp_path)
        check_refused(result, LineageError, "lineage.yaml", mention)


def test_a_missing_file_is_refused(model: Path, tmp_path: Path) -> None:
    result = run_cli("import", model, "-o", tmp_path / "m.mlb", "--lineage", tmp_path / "none.yaml")
    check_refused(result, LineageError, "none.yaml", "mlopsc init")


def test_dates_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "lineage.yaml"
    path.write_text("configuration: {since: 2026-03-01}\ndatasets: [{name: a, version: '3'}]")
    assert load_lineage(path).configuration == {"since": "2026-03-01"}


# mlopsc init -------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.tool("git")
def test_init_writes_a_file_that_works(model: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", "https://me:secret@example.org/train.git")
    git(tmp_path, "add", "model.onnx")
    git(tmp_path, "commit", "-qm", "model")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("hello")
    result = run_cli("init", model, "--data", tmp_path / "data")
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "lineage.yaml").read_text(encoding="utf-8")
    assert "secret" not in text
    found = load_lineage(tmp_path / "lineage.yaml")
    assert found.code.repository == "https://example.org/train.git"
    assert found.code.commit == git(tmp_path, "rev-parse", "HEAD")
    assert found.code.dirty is True, "the data is not in the repository"
    (data,) = found.datasets
    assert (data.name, data.digest) == ("data", mlopsc.fingerprint(tmp_path / "data").digest)
    assert "numpy" in {framework.name for framework in found.frameworks}
    bundle = mlopsc.import_model(model, tmp_path / "m.mlb")
    assert str(data.digest).removeprefix("sha256:") in bundle.documents["lineage.json"].decode()
    again = run_cli("init", model)
    assert again.returncode != 0
    assert "--force" in again.stderr
    assert run_cli("init", model, "--force").returncode == 0


def test_init_without_anything_known_is_a_valid_file(tmp_path: Path) -> None:
    result = run_cli("init", cwd=tmp_path, env={"PATH": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    found = load_lineage(tmp_path / "lineage.yaml")
    assert found.code == Lineage().code
    assert found.datasets == ()
    examples = (tmp_path / "lineage.yaml").read_text(encoding="utf-8")
    assert "#   - name: my-images" in examples


def test_init_writes_steps_that_work(tmp_path: Path) -> None:
    result = run_cli("init", "--steps", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    made = run_cli("preprocess", tmp_path / "preprocess.yaml", "-o", tmp_path / "p.onnx")
    assert made.returncode == 0, made.stderr
    with unchanged(tmp_path):
        (tmp_path / "lineage.yaml").rename(tmp_path / "kept.yaml")
        assert run_cli("init", "--steps", cwd=tmp_path).returncode != 0
        (tmp_path / "kept.yaml").rename(tmp_path / "lineage.yaml")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://me:secret@example.org/a.git", "https://example.org/a.git"),
        ("https://token@example.org:8443/a", "https://example.org:8443/a"),
        ("git@example.org:team/a.git", "git@example.org:team/a.git"),
        ("/srv/git/a.git", "/srv/git/a.git"),
        ("", ""),
    ],
)
def test_credentials_are_no_part_of_a_history(url: str, expected: str) -> None:
    assert without_credentials(url) == expected


# Lock-step ---------------------------------------------------------------------------------------


def test_preprocessing_that_trained_the_model_is_accepted(
    digits_folder: Path, tmp_path: Path
) -> None:
    given = digest_file(digits_folder / "preprocess.onnx")
    arguments = (
        "import", digits_folder / "digits.onnx", "--no-lineage",
        "--preprocess", digits_folder / "preprocess.onnx",
    )  # fmt: skip
    result = run_cli(*arguments, "-o", tmp_path / "a.mlb", "--trained-with", given)
    assert result.returncode == 0, result.stderr
    shipped = mlopsc.load_preprocess(tmp_path / "a.mlb").digest
    assert shipped != given
    again = run_cli(*arguments, "-o", tmp_path / "b.mlb", "--trained-with", shipped)
    assert again.returncode == 0, again.stderr
    shown = run_cli("verify", tmp_path / "a.mlb", "--allow-unsigned")
    assert shipped in shown.stdout
    images = np.load(digits_folder / "vectors.npz")["image"]
    outputs = mlopsc.load_preprocess(tmp_path / "a.mlb")(image=images)
    np.testing.assert_array_equal(outputs["input"], images[:, None].astype(np.float32) / 16)


def test_other_preprocessing_is_refused_with_both_digests(
    digits_folder: Path, tmp_path: Path
) -> None:
    given = digest_file(digits_folder / "preprocess.onnx")
    write(tmp_path, {"preprocessing": DIGEST})
    model = digits_folder / "digits.onnx"
    preprocess = ("--preprocess", digits_folder / "preprocess.onnx")
    for said in (("--trained-with", DIGEST), ("--lineage", tmp_path / "lineage.yaml")):
        for arguments in (
            ("import", model, "-o", tmp_path / "m.mlb", *preprocess, *said),
            ("build", model, "-t", "host", "-o", tmp_path / "out", *preprocess, *said),
        ):
            result = run_cli(*arguments)
            check_refused(result, LockstepError, DIGEST, given)
    result = run_cli("import", model, "-o", tmp_path / "m.mlb", "--trained-with", DIGEST)
    assert result.returncode in (LockstepError.exit_code,)
    assert DIGEST in result.stderr
    assert not (tmp_path / "m.mlb").exists()
    assert not (tmp_path / "out").exists()


def external(folder: Path, value: float) -> Path:
    """Save preprocessing whose constant lies in a file beside the graph."""
    constant = np.full((1, 1, 8, 8), value, np.float32)
    made = models.model(
        [models.node("Mul", ["image", "scale"], ["input"])],
        [models.value("image", [1, 1, 8, 8])],
        [models.value("input", [1, 1, 8, 8])],
        {"scale": constant},
    )
    folder.mkdir()
    path = folder / "pre.onnx"
    onnx.save(made, path, save_as_external_data=True, location="pre.data", size_threshold=0)
    return path


def test_constants_in_files_of_their_own_count(digits_folder: Path, tmp_path: Path) -> None:
    one, other = external(tmp_path / "one", 0.5), external(tmp_path / "other", 0.25)
    assert one.read_bytes() == other.read_bytes()
    bundles = [
        mlopsc.import_model(
            digits_folder / "digits.onnx",
            tmp_path / f"{path.parent.name}.mlb",
            preprocess=path,
            find_lineage=False,
        )
        for path in (one, other)
    ]
    sources = [bundle.manifest.stages[0].source.digest for bundle in bundles]
    assert sources[0] != sources[1]
    assert sources[0].removeprefix("sha256:") in bundles[0].documents["provenance.json"].decode()
    for digest in (sources[0], mlopsc.load_preprocess(tmp_path / "one.mlb").digest):
        for path, accepted in ((one, True), (other, False)):
            result = run_cli(
                "import", digits_folder / "digits.onnx", "-o", tmp_path / "again.mlb", "--force",
                "--preprocess", path, "--no-lineage", "--trained-with", digest,
            )  # fmt: skip
            assert (result.returncode == 0) == accepted, result.stderr


def test_text_of_others_does_not_steer_the_terminal(model: Path, tmp_path: Path) -> None:
    hostile = "red \x1b[31m\x1b]0;title\a"
    write(tmp_path, {"model": {"description": hostile}, "datasets": [{"name": hostile}]})
    mlopsc.import_model(model, tmp_path / "m.mlb")
    for arguments in (["trace"], ["inspect"]):
        shown = run_cli(*arguments, tmp_path / "m.mlb").stdout
        assert "\x1b" not in shown
        assert "\\x1b[31m" in shown
    run_cli("trace", tmp_path / "m.mlb", "--picture", tmp_path / "m.svg")
    ET.parse(tmp_path / "m.svg")  # noqa: S314 - ours


@pytest.mark.parametrize("text", ["[]", "false", "0",
                                  "configuration: {a: !!set {b}}",
                                  "configuration: {a: !!binary aGk=}",
                                  'configuration: {a: "\\ud800"}'])  # fmt: skip
def test_what_is_no_json_is_refused(text: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "lineage.yaml").write_text(text, encoding="utf-8")
    result = run_cli("import", model, "-o", tmp_path / "m.mlb")
    check_refused(result, LineageError, "lineage.yaml")


def test_python_signs_verifies_and_traces(model: Path, tmp_path: Path) -> None:
    write(tmp_path, FULL)
    mlopsc.import_model(model, tmp_path / "m.mlb")
    assert run_cli("keygen", "-o", tmp_path / "key", "--no-password").returncode == 0
    name = mlopsc.sign(tmp_path / "m.mlb", tmp_path / "key")
    found = mlopsc.verify(tmp_path / "m.mlb", keys=[tmp_path / "key.pub"])
    assert {check.name: check.verdict for check in found.checks}["signature"] == "pass"
    assert name in {node.digest for node in walk(mlopsc.trace(tmp_path / "m.mlb"))}
    with pytest.raises(SignatureError):
        mlopsc.verify(tmp_path / "m.mlb")


def test_loading_a_model_imports_little() -> None:
    program = (
        "import sys, mlopsc; mlopsc.load; "
        "print([m for m in ('cryptography', 'cyclonedx', 'spdx_tools', 'onnxruntime', 'tvm', "
        "'onnx_ir', 'filelock', 'mlopsc.pipeline') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.strip() == "[]"
