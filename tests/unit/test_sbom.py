"""Bills of materials: valid by both standards, complete, the same each time."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spdx_tools.spdx.model import RelationshipType
from spdx_tools.spdx.parser.json.json_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from mlopsc.bundle import read_bundle
from mlopsc.errors import InputError
from mlopsc.package_reader import read_package
from mlopsc.sbom import bundle_sbom, package_sbom, read_sbom
from mlopsc.sbom.spdx import to_spdx
from mlopsc.schema.bundle import Manifest
from mlopsc.schema.lineage import (
    Dataset,
    Framework,
    Lineage,
    Metric,
    ModelFacts,
    ParentModel,
    TrainingCode,
)
from mlopsc.schema.package import Package
from mlopsc.schema.sbom import Ingredient

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ODD = [
    "",
    " ",
    "Ünïcode 数据 🙂",
    "a \"quoted\" 'name'\\ {brace} <tag> & %zz # ?",
    "line\nbreak\ttab\0nul",
    "ACME (Germany)",
    "(only parentheses)",
    "x" * 1500,
    "Apache-2.0 WITH nothing",
    "MIT AND",
    "((((",
    "LicenseRef-somebody",
    "DocumentRef-a:LicenseRef-b",
    "NOASSERTION",
    "urn:cdx:1/1#a",
]


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


LINEAGE = Lineage(
    model=ModelFacts(
        licence="CC-BY-4.0",
        owner="Vision team",
        description="Reads digits.",
        task="image-classification",
        architecture="convolutional neural network",
        intended_use=("teaching",),
        limitations=("handwriting of children",),
        ethical_considerations=("misread cheques",),
    ),
    datasets=(
        Dataset(
            name="digits",
            version="1",
            digest=digest("a"),
            licence="CC0-1.0",
            sensitivity="personal",
            owner="Data office",
            url="https://example.org/digits?v=1",
        ),
        Dataset(name="digits", version="1", digest=digest("b"), role="test", licence="Contract 7"),
        Dataset(name="ranges", digest=digest("c"), role="calibration"),
    ),
    code=TrainingCode(
        repository="https://example.org/train.git",
        commit=COMMIT,
        dirty=True,
        entry_point="train.py",
    ),
    frameworks=(Framework(name="torch", version="2.9"), Framework(name="torch", version="2.9")),
    metrics=(
        Metric(name="accuracy", value=0.1 + 0.2, dataset="digits", slice="class 3"),
        Metric(name="loss", value=1e-30),
    ),
    parents=(ParentModel(name="base", digest=digest("d"), relation="fine-tuned"),),
    preprocessing=digest("e"),
)
INGREDIENTS = (
    Ingredient(kind="kernel", name="digits_k1_conv"),
    Ingredient(kind="generated", name="kernels.c", digest=digest("1")),
    Ingredient(kind="runtime", name="mlopsc_exp.c", licence="Apache-2.0", digest=digest("2")),
    Ingredient(kind="compiler", name="zig", version="0.17.1", licence="MIT"),
    Ingredient(kind="tool", name="mlopsc", version="0.1.0", licence="Apache-2.0"),
    Ingredient(
        kind="library",
        name="compiler-rt",
        licence="Apache-2.0 WITH LLVM-exception",
        digest=digest("3"),
    ),
)


@pytest.fixture(scope="module")
def manifest(digits_bundle: Path) -> Manifest:
    return read_bundle(digits_bundle).manifest


@pytest.fixture(scope="module")
def package(digits_packages: dict[str, Path]) -> Package:
    return read_package(digits_packages["cortex-m7"]).info


@functools.cache
def validator() -> JsonStrictValidator:
    return JsonStrictValidator(SchemaVersion.V1_6)


def check_cyclonedx(text: str) -> dict[str, Any]:
    """Check a document by its schema, and that every reference leads to one component."""
    error = validator().validate_str(text)
    assert error is None, error.data.message
    document: dict[str, Any] = json.loads(text)
    refs = [component["bom-ref"] for component in components(document)]
    assert len(refs) == len(set(refs))
    for dependency in document["dependencies"]:
        assert {dependency["ref"], *dependency.get("dependsOn", [])} <= set(refs)
    assert text == json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return document


def check_spdx(text: str) -> Any:
    """Check a document as its readers do: parse it, then validate it."""
    document = JsonLikeDictParser().parse(json.loads(text))
    assert validate_full_spdx_document(document) == []
    return document


def components(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The subject, all that is listed, and what these were made from."""
    listed = [document["metadata"]["component"], *document.get("components", [])]
    return [*listed, *(p for c in listed for p in c.get("pedigree", {}).get("ancestors", []))]


def kinds(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [c for c in components(document) if fact(c, "mlopsc:kind") == kind]


def fact(component: dict[str, Any], name: str) -> str | None:
    return next((p["value"] for p in component.get("properties", []) if p["name"] == name), None)


def by_digest(document: dict[str, Any]) -> dict[str, list[str]]:
    """The names of the components that have each digest."""
    found: dict[str, list[str]] = {}
    for component in components(document):
        for entry in component.get("hashes", []):
            assert entry["alg"] == "SHA-256"
            found.setdefault("sha256:" + entry["content"], []).append(component["name"])
    return found


def licences(component: dict[str, Any]) -> list[str]:
    return [
        choice.get("expression") or choice["license"].get("id") or choice["license"]["name"]
        for choice in component.get("licenses", [])
    ]


def relations(text: str) -> set[tuple[str, str, str]]:
    """Relations of an SPDX document, by the names of what they relate."""
    document = check_spdx(text)
    names = {p.spdx_id: p.name for p in document.packages}
    names["SPDXRef-DOCUMENT"] = "document"
    return {
        (names[r.spdx_element_id], r.relationship_type.name, names[r.related_spdx_element_id])
        for r in document.relationships
    }


def test_bundle_without_lineage(manifest: Manifest) -> None:
    document = check_cyclonedx(bundle_sbom(manifest, None))
    root = document["metadata"]["component"]
    assert (root["type"], root["name"], root["version"]) == (
        "machine-learning-model",
        manifest.name,
        "1.0",
    )
    card = root["modelCard"]["modelParameters"]
    assert card["inputs"] == [{"format": "image: uint8[1, 8, 8]"}]
    assert card["outputs"] == [{"format": "probabilities: float32[1, 10]"}]
    assert "licenses" not in root and "timestamp" not in document["metadata"]
    assert not kinds(document, "dataset")


def test_bundle_lists_every_member_once(manifest: Manifest) -> None:
    document = check_cyclonedx(bundle_sbom(manifest, LINEAGE))
    members = kinds(document, "file") + kinds(document, "graph")
    assert sorted(c["name"] for c in members) == sorted(e.path for e in manifest.files)
    found = by_digest(document)
    for entry in manifest.files:
        assert entry.path in found[entry.digest]
    stages = {fact(c, "mlopsc:stage"): c["name"] for c in kinds(document, "graph")}
    assert stages.keys() == {"preprocess", "model"}
    sources = {fact(c, "mlopsc:source") for c in kinds(document, "graph")} - {None}
    assert sources == {stage.source.digest for stage in manifest.stages}
    hashes = {"sha256:" + h["content"] for h in document["metadata"]["component"]["hashes"]}
    assert hashes == {e.digest for e in manifest.files if e.path.startswith("model.")}


def test_model_card_says_what_the_lineage_says(manifest: Manifest) -> None:
    document = check_cyclonedx(bundle_sbom(manifest, LINEAGE))
    root = document["metadata"]["component"]
    assert licences(root) == ["CC-BY-4.0"]
    assert root["supplier"] == {"name": "Vision team"}
    assert root["description"] == "Reads digits."
    card = root["modelCard"]
    assert card["modelParameters"]["task"] == "image-classification"
    assert card["modelParameters"]["architectureFamily"] == "convolutional neural network"
    refs = [entry["ref"] for entry in card["modelParameters"]["datasets"]]
    assert sorted(refs) == sorted(c["bom-ref"] for c in kinds(document, "dataset"))
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "accuracy", "value": repr(0.1 + 0.2), "slice": "class 3 of digits"},
        {"type": "loss", "value": "1e-30"},
    ]
    assert card["considerations"] == {
        "useCases": ["teaching"],
        "technicalLimitations": ["handwriting of children"],
        "ethicalConsiderations": [{"name": "misread cheques"}],
    }


def test_data_sets_parents_code_and_programs_are_listed(manifest: Manifest) -> None:
    document = check_cyclonedx(bundle_sbom(manifest, LINEAGE))
    found = by_digest(document)
    for dataset in LINEAGE.datasets:
        assert dataset.digest is not None and found[dataset.digest] == [dataset.name]
    data = next(c for c in kinds(document, "dataset") if licences(c) == ["CC0-1.0"])
    assert data["type"] == "data"
    assert data["data"] == [
        {
            "type": "dataset",
            "name": "digits",
            "classification": "personal",
            "governance": {"owners": [{"organization": {"name": "Data office"}}]},
        }
    ]
    assert data["externalReferences"][0]["url"] == "https://example.org/digits?v=1"
    root = document["metadata"]["component"]
    assert root["externalReferences"] == [
        {"type": "vcs", "url": "https://example.org/train.git", "comment": f"commit {COMMIT}"}
    ]
    assert fact(root, "mlopsc:preprocessing") == LINEAGE.preprocessing
    (parent,) = root["pedigree"]["ancestors"]
    assert parent["type"] == "machine-learning-model" and found[digest("d")] == ["base"]
    (framework,) = kinds(document, "framework")
    assert (framework["type"], framework["version"]) == ("framework", "2.9")
    (runtime,) = kinds(document, "reference")
    assert f"{runtime['name']} {runtime['version']}" == manifest.vectors.reference
    producers = {s.source.producer for s in manifest.stages} - {""}
    assert {f"{c['name']} {c['version']}" for c in kinds(document, "exporter")} == producers
    needs = {d["ref"]: d.get("dependsOn", []) for d in document["dependencies"]}
    others = {c["bom-ref"] for c in document["components"]}
    assert set(needs[root["bom-ref"]]) == others


def test_package_lists_files_and_ingredients(manifest: Manifest, package: Package) -> None:
    document = check_cyclonedx(package_sbom(package, manifest, LINEAGE, INGREDIENTS))
    root = document["metadata"]["component"]
    assert (root["type"], root["name"]) == ("library", package.name)
    assert fact(root, "mlopsc:target") == "cortex-m7"
    assert fact(root, "mlopsc:target:triple") == package.target.compile.triple
    assert licences(root) == ["CC-BY-4.0 AND Apache-2.0"]
    found = by_digest(document)
    for entry in package.files:
        assert entry.path in found[entry.digest]
    assert len(kinds(document, "file")) == len(package.files)
    for ingredient in INGREDIENTS:
        (component,) = [c for c in kinds(document, ingredient.kind) if c["name"] == ingredient.name]
        assert component.get("version", "") == ingredient.version
        wanted = ingredient.licence or "CC-BY-4.0"  # what the model's graph became is the model's
        assert licences(component) == [wanted]
        if ingredient.digest:
            assert found[ingredient.digest] == [ingredient.name]
    (model,) = kinds(document, "model")
    bundle = json.loads(bundle_sbom(manifest, LINEAGE))["metadata"]["component"]
    assert model["modelCard"] == bundle["modelCard"] and model["hashes"] == bundle["hashes"]


@pytest.mark.parametrize(
    ("of_model", "whole"),
    [
        ("", []),
        ("MIT OR CC0-1.0", ["(MIT OR CC0-1.0) AND Apache-2.0"]),
        ("Our contract", ["Apache-2.0", "Our contract"]),
        ("apache-2.0", ["Apache-2.0"]),
    ],
)
def test_licence_of_a_library(package: Package, of_model: str, whole: list[str]) -> None:
    lineage = Lineage(model=ModelFacts(licence=of_model))
    document = check_cyclonedx(package_sbom(package, None, lineage, INGREDIENTS))
    assert sorted(licences(document["metadata"]["component"])) == whole


def test_spdx_relates_everything(manifest: Manifest, package: Package) -> None:
    text = to_spdx(package_sbom(package, manifest, LINEAGE, INGREDIENTS))
    name, found = package.name, relations(text)
    assert {
        ("document", "DESCRIBES", name),
        (name, "CONTAINS", package.static_library),
        (name, "CONTAINS", "digits_k1_conv"),
        (name, "GENERATED_FROM", "kernels.c"),
        (name, "GENERATED_FROM", "mlopsc_exp.c"),
        (name, "GENERATED_FROM", name),  # the model, which has the library's name
        (name, "DEPENDS_ON", "compiler-rt"),
        ("zig", "BUILD_TOOL_OF", name),
        (name, "CONTAINS", "model.onnx"),
        (name, "GENERATED_FROM", "digits"),
        (name, "GENERATED_FROM", "ranges"),
        ("digits", "TEST_OF", name),
        (name, "DESCENDANT_OF", "base"),
        ("torch", "BUILD_DEPENDENCY_OF", name),
        ("onnxruntime", "TEST_TOOL_OF", name),
    } <= found
    document = check_spdx(text)
    related = {r.related_spdx_element_id for r in document.relationships}
    related |= {r.spdx_element_id for r in document.relationships}
    assert {p.spdx_id for p in document.packages} <= related
    assert RelationshipType.OTHER not in {r.relationship_type for r in document.relationships}


def test_spdx_keeps_digests_and_licences(manifest: Manifest, package: Package) -> None:
    text = package_sbom(package, manifest, LINEAGE, INGREDIENTS)
    document = check_spdx(to_spdx(text))
    sums = {"sha256:" + c.value for p in document.packages for c in p.checksums}
    assert sums == set(by_digest(json.loads(text)))
    (own,) = document.extracted_licensing_info
    assert own.extracted_text == "Contract 7"
    declared = {(p.name, str(p.license_declared)) for p in document.packages}
    assert ("digits", own.license_id) in declared
    assert ("compiler-rt", "Apache-2.0 WITH LLVM-exception") in declared
    assert ("ranges", "NOASSERTION") in declared
    data = next(p for p in document.packages if str(p.license_declared) == "CC0-1.0")
    assert data.supplier.name == "Data office" and "classification: personal" in data.comment
    assert data.homepage == "https://example.org/digits?v=1"


def odd_lineage(text: str) -> Lineage:
    """A lineage whose every free text is ``text``."""
    name = text or "-"
    return Lineage(
        model=ModelFacts(
            licence=text,
            owner=text,
            description=text,
            task=text,
            architecture=text,
            intended_use=(name,),
            limitations=(name, name),
            ethical_considerations=(name, name),
        ),
        datasets=(
            Dataset(name=name, version=text, licence=text, owner=text, url=text),
            Dataset(name=name, version=text, role="test", url=f"https://example.org/{text}"),
            Dataset(name=name, version=text, role="validation", url=f"https://{text}"),
        ),
        code=TrainingCode(repository=f"https://example.org:{text}", entry_point=text),
        frameworks=(Framework(name=name, version=text),),
        metrics=(Metric(name=name, value=1.0, dataset=text, slice=text),),
        parents=(ParentModel(name=name), ParentModel(name=name)),
    )


def check_odd(manifest: Manifest, text: str) -> None:
    sbom = bundle_sbom(manifest, odd_lineage(text))
    document = check_cyclonedx(sbom)
    data = kinds(document, "dataset")
    assert [c["name"] for c in data] == [text or "-"] * 3  # nothing is lost or changed
    if data[0].get("version", "") != text:
        assert fact(data[0], "mlopsc:version") == text and len(text) > 1024
    check_spdx(to_spdx(sbom))


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_names_and_licences_are_valid(manifest: Manifest, text: str) -> None:
    check_odd(manifest, text)


def test_odd_ingredients_are_valid(package: Package) -> None:
    ingredients = [
        Ingredient(kind=kind, name=text, version=text, licence=text)
        for text in ODD
        for kind in ("kernel", "library", "compiler")
    ]
    sbom = package_sbom(package, None, None, ingredients)
    document = check_cyclonedx(sbom)
    for kind in ("kernel", "library", "compiler"):
        assert sorted(c["name"] for c in kinds(document, kind)) == sorted(ODD)
    check_spdx(to_spdx(sbom))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=40))
def test_any_text_is_valid(manifest: Manifest, text: str) -> None:
    check_odd(manifest, text)


@pytest.mark.parametrize(
    ("given_licence", "expected"),
    [
        ("mit", "MIT"),
        (" Apache-2.0 ", "Apache-2.0"),
        ("apache-2.0 or mit", "Apache-2.0 OR MIT"),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", None),
        ("My own licence", "My own licence"),
        ("MIT/Apache-2.0", "MIT/Apache-2.0"),
        ("MIT AND " * 600 + "MIT", None),
    ],
)
def test_licences_are_normalised(
    manifest: Manifest, given_licence: str, expected: str | None
) -> None:
    lineage = Lineage(model=ModelFacts(licence=given_licence))
    sbom = bundle_sbom(manifest, lineage)
    document = check_cyclonedx(sbom)
    assert licences(document["metadata"]["component"]) == [expected or given_licence]
    check_spdx(to_spdx(sbom))


_PRINT = """
import sys
from pathlib import Path
from mlopsc.sbom import package_sbom
from mlopsc.sbom.spdx import to_spdx
from mlopsc.schema.bundle import Manifest
from mlopsc.schema.lineage import Lineage
from mlopsc.schema.package import Package
from mlopsc.schema.sbom import Ingredient
from pydantic import RootModel
folder = Path(sys.argv[1])
ingredients = RootModel[tuple[Ingredient, ...]].model_validate_json((folder / "i").read_bytes())
package, manifest = Package.from_file(folder / "p"), Manifest.from_file(folder / "m")
sbom = package_sbom(package, manifest, Lineage.from_file(folder / "l"), ingredients.root)
sys.stdout.buffer.write((sbom + to_spdx(sbom)).encode())
"""


def test_same_bytes_in_every_process(manifest: Manifest, package: Package, tmp_path: Path) -> None:
    many = Lineage(
        datasets=tuple(Dataset(name=f"set {i % 5}", version=str(i)) for i in range(20)),
        frameworks=tuple(Framework(name=f"f{i}") for i in range(20)),
    )
    ingredients = [i.model_dump() for i in INGREDIENTS]
    for name, text in (
        ("p", package.to_json()),
        ("m", manifest.to_json()),
        ("l", many.to_json()),
        ("i", json.dumps(ingredients)),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    texts = set()
    for seed in ("0", "1", "random"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", _PRINT, str(tmp_path)]
        texts.add(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    assert len(texts) == 1
    sbom = package_sbom(package, manifest, many, INGREDIENTS)
    assert texts == {(sbom + to_spdx(sbom)).encode()}


def test_another_data_set_is_another_document(manifest: Manifest) -> None:
    first = LINEAGE.datasets[0]
    drifted = first.model_copy(update={"digest": digest("f")})
    lineage = LINEAGE.model_copy(update={"datasets": (drifted, *LINEAGE.datasets[1:])})
    before, after = bundle_sbom(manifest, LINEAGE), bundle_sbom(manifest, lineage)
    found, now = by_digest(json.loads(before)), by_digest(json.loads(after))
    assert found.keys() - now.keys() == {first.digest}
    assert now.keys() - found.keys() == {drifted.digest}
    assert json.loads(before)["serialNumber"] != json.loads(after)["serialNumber"]
    namespaces = {json.loads(to_spdx(text))["documentNamespace"] for text in (before, after)}
    assert len(namespaces) == 2


def test_time_is_what_the_environment_says(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    without = bundle_sbom(manifest, LINEAGE)
    assert json.loads(to_spdx(without))["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1735689600")
    document = check_cyclonedx(bundle_sbom(manifest, LINEAGE))
    assert document["metadata"]["timestamp"] == "2025-01-01T00:00:00+00:00"
    assert document["serialNumber"] != json.loads(without)["serialNumber"]
    assert json.loads(to_spdx(without))["creationInfo"]["created"] == "2025-01-01T00:00:00Z"


@pytest.mark.parametrize("value", ["now", "-1", "1e9", "9" * 30, "²"])
def test_time_that_is_none_is_refused(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH") as error:
        bundle_sbom(manifest, None)
    assert value in error.value.message and error.value.hint


def damaged(text: str) -> Iterator[str]:
    yield ""
    yield "[]"
    yield "[" * 100000
    yield text[:-100]
    yield text.replace('"CycloneDX"', '"SPDX"')
    yield text.replace('"value": "file"', '"value": "unheard of"', 1)
    yield text.replace("SHA-256", "MD5", 1)
    yield text.replace('"bom-ref": "dataset:ranges"', '"bom-ref": "dataset:digits@1"')
    yield text.replace('"value": "model"', '"value": "parent"')


def test_other_documents_are_refused(manifest: Manifest) -> None:
    text = bundle_sbom(manifest, LINEAGE)
    assert read_sbom(text).metadata.component.name == manifest.name
    for other in damaged(text):
        assert other != text
        with pytest.raises(ValueError) as error:
            to_spdx(other)
        assert "\n" not in str(error.value)
