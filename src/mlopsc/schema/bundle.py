"""The manifest of a bundle (``.mlb``): what went in and what normalisation made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from mlopsc.schema.common import Digest, FileEntry, Frozen, TensorSpec
from mlopsc.schema.lineage import LINEAGE_FILE
from mlopsc.schema.sbom import SBOM_FILE
from mlopsc.schema.versions import Upgrade, parse_versioned

Arithmetic = Literal["float", "integer", "mixed"]
StageName = Literal["preprocess", "model", "postprocess"]
BUNDLE_SUFFIX = ".mlb"
MANIFEST_FILE: Final = "manifest.json"
PROVENANCE_FILE: Final = "provenance.json"
DOCUMENTS: Final = (LINEAGE_FILE, PROVENANCE_FILE, SBOM_FILE)
_FIRST_NAME: Final = 30  # where the name of the first member stands in a zip archive
STAGES: tuple[StageName, ...] = ("preprocess", "model", "postprocess")


class Source(Frozen):
    """Where the model came from, as far as its file says.

    Attributes:
        framework: The frontend that read it, such as ``onnx``.
        producer: Name and version of the exporter, from the file, or an empty string.
        digest: Of the file that was given, followed by its external data if it has any; of names
            and digests of all its files if it was a folder.
    """

    framework: str
    producer: str
    digest: str


class StageRecord(Frozen):
    """One ONNX graph of the bundle and what the importer did to it.

    Attributes:
        name: Which stage it is.
        source: Where it came from.
        opset: Version of the ``ai.onnx`` operator set of the normalised graph.
        nodes: Number of nodes after normalisation.
        parameters: Number of weight elements.
        bound: Symbolic dimensions that were given a size.
        passes: The normalise passes that changed it, in order.
        findings: Things to know that are not errors, such as weights that are NaN.
    """

    name: StageName
    source: Source
    opset: int
    nodes: int
    parameters: int
    bound: dict[str, int]
    passes: tuple[str, ...]
    findings: tuple[str, ...]


class VectorsRecord(Frozen):
    """The test vectors of the bundle.

    Attributes:
        count: Number of vectors.
        origin: ``given`` by the user or ``synthesised`` from the signature.
        labels: Expected class per vector, or empty.
        reference: Name and version of the runtime that made the expected outputs.
        arithmetic: ``integer`` if everything between quantised inputs and outputs is computed in
            integers, ``mixed`` if some of it is, ``float`` if the model is not quantised.
    """

    count: Annotated[int, Field(ge=1)]
    origin: Literal["given", "synthesised"]
    labels: tuple[int, ...]
    reference: str
    arithmetic: Arithmetic = "float"


class OriginCheck(Frozen):
    """How the normal form compares with the models as they came, on the test vectors.

    Attributes:
        compared: Whether the reference runtime could run the models as they came.
        reason: Why not.
        reference: What ran them.
        relative_to_max: Largest difference, relative to the largest value of its output.
    """

    compared: bool
    reason: str = ""
    reference: str = ""
    relative_to_max: float = 0.0


class FrameworkCheck(Frozen):
    """How the bundle compares with the original, run by its own framework.

    Attributes:
        what: What the source was taken for.
        compared: Whether the original could run where it was imported.
        reason: Why not.
        framework: Name and version of the framework that ran it.
        written_by: Name and version of what wrote the source, as far as it says.
        converter: Name and version of what made the ONNX file.
        vectors: Number of the user's vectors that were compared.
        drawn: Number of drawn inputs that were compared.
        relative_to_max: Largest difference, relative to the largest value of its output.
        tolerance: What is allowed.
        accepted: Why a larger difference was accepted, in the user's words; else empty.
        preprocessing: What was found at the head of the model and became the preprocessing stage.
        postprocessing: The same of its end.
        notes: What was not carried over.
    """

    what: str
    compared: bool
    reason: str = ""
    framework: str
    written_by: str = ""
    converter: str = ""
    vectors: Annotated[int, Field(ge=0)] = 0
    drawn: Annotated[int, Field(ge=0)] = 0
    relative_to_max: Annotated[float, Field(ge=0)] = 0.0
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    accepted: str = ""
    preprocessing: tuple[str, ...] = ()
    postprocessing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line for people."""
        if not self.compared:
            return f"not compared with {self.framework}: {self.reason}"
        text = (
            f"at most {self.relative_to_max:.2g} of the largest value from {self.framework} on "
            f"{self.vectors} vectors and {self.drawn} drawn inputs"
        )
        return text + (f"; accepted: {self.accepted}" if self.accepted else "")


class IntegerCheck(Frozen):
    """How a quantised model's integers compare with the reference runtime, on the test vectors.

    Attributes:
        layers: Number of layers that integers compute.
        largest_step: Largest difference of a layer's result, in steps, where the runtime is given
            the same integers. More than 1 is refused.
        differing: Largest share of differing elements of a layer.
        output_largest: Largest difference of an output, end to end, relative to its largest value.
        output_differing: Share of differing elements of all outputs, end to end.
        decisions: Share of vectors on which the greatest element of the first output is the same.
        reference: What it was compared with.
    """

    layers: Annotated[int, Field(ge=1)]
    largest_step: Annotated[int, Field(ge=0, le=1)]
    differing: Annotated[float, Field(ge=0, le=1)]
    output_largest: Annotated[float, Field(ge=0)]
    output_differing: Annotated[float, Field(ge=0, le=1)]
    decisions: Annotated[float, Field(ge=0, le=1)]
    reference: str

    def __str__(self) -> str:
        """Return one line for people."""
        return (
            f"{self.layers} layers, each at most {self.largest_step} step from {self.reference}; "
            f"whole model: {self.output_differing:.2%} of elements differ, by at most "
            f"{self.output_largest:.2%} of the largest value, {self.decisions:.0%} of decisions "
            "agree"
        )


class Manifest(Frozen):
    """``manifest.json`` of a bundle, schema version 4.

    Attributes:
        name: Name of the model; a C identifier.
        version: The user's version of the model.
        inputs: Raw inputs, before preprocessing.
        outputs: Outputs of the last stage.
        stages: The graphs, in the order they run.
        trained_with: Digest of the preprocessing graph that made the inputs the model was trained
            on, if that is known; the bundle's own must have it.
        vectors: About the test vectors.
        origin: How the graphs compare with the models they were made from.
        framework: How the bundle compares with a framework's original, if it was no ONNX file.
        integers: How the integers of a quantised model compare with the reference runtime.
        files: Every other member of the bundle.
    """

    schema_version: Literal[4] = 4
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    version: str
    created_by: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stages: tuple[StageRecord, ...]
    trained_with: Digest | None
    vectors: VectorsRecord
    origin: OriginCheck
    framework: FrameworkCheck | None = None
    integers: IntegerCheck | None = None
    files: tuple[FileEntry, ...]


def _from_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had no lineage, provenance, SBOM or digest of what trained the model."""
    return {**manifest, "schema_version": 2, "trained_with": None}


def _from_2(manifest: dict[str, Any]) -> dict[str, Any]:
    """Version 2 did not say how its model is computed; quantised parts were floats."""
    return {**manifest, "schema_version": 3}


def _from_3(manifest: dict[str, Any]) -> dict[str, Any]:
    """Version 3 knew ONNX files only, and inputs without labels."""
    return {**manifest, "schema_version": 4}


_UPGRADES: Final[dict[int, Upgrade]] = {1: _from_1, 2: _from_2, 3: _from_3}
MANIFEST_VERSIONS: Final = len(_UPGRADES) + 1


def parse_manifest(data: bytes, what: str) -> tuple[Manifest, int]:
    """Return a manifest of any version in today's form, and its version; ``what`` is whose.

    Raises:
        FormatVersionError, ValueError: As ``parse_versioned``.
    """
    return parse_versioned(data, Manifest, _UPGRADES, what)


def is_bundle(path: Path) -> bool:
    """Whether ``path`` is meant as a bundle: by its content, or by its name if it has none."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe never ends
            return path.suffix == BUNDLE_SUFFIX
        with path.open("rb") as file:
            head = file.read(_FIRST_NAME + len(MANIFEST_FILE))
        first = head[_FIRST_NAME:] == MANIFEST_FILE.encode()  # other archives hold other models
        return (head.startswith(b"PK\x03\x04") and first) or path.suffix == BUNDLE_SUFFIX
    except OSError:
        return path.suffix == BUNDLE_SUFFIX
