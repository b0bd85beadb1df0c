"""The manifest of a bundle (``.mlb``): what went in and what normalisation made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mlopsc.schema.common import FileEntry, Frozen, TensorSpec

StageName = Literal["preprocess", "model", "postprocess"]
BUNDLE_SUFFIX = ".mlb"
STAGES: tuple[StageName, ...] = ("preprocess", "model", "postprocess")


class Source(Frozen):
    """Where the model came from, as far as its file says.

    Attributes:
        framework: The frontend that read it (``onnx``).
        producer: Name and version of the exporter, from the file, or an empty string.
        digest: Of the file that was given.
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
    """

    count: Annotated[int, Field(ge=1)]
    origin: Literal["given", "synthesised"]
    labels: tuple[int, ...]
    reference: str


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


class Manifest(Frozen):
    """``manifest.json`` of a bundle, schema version 1.

    Attributes:
        name: Name of the model; a C identifier.
        version: The user's version of the model.
        inputs: Raw inputs, before preprocessing.
        outputs: Outputs of the last stage.
        stages: The graphs, in the order they run.
        vectors: About the test vectors.
        origin: How the graphs compare with the models they were made from.
        files: Every other member of the bundle.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    version: str
    created_by: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stages: tuple[StageRecord, ...]
    vectors: VectorsRecord
    origin: OriginCheck
    files: tuple[FileEntry, ...]


def is_bundle(path: Path) -> bool:
    """Whether ``path`` is meant as a bundle: by its content, or by its name if it has none."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04" or path.suffix == BUNDLE_SUFFIX
    except OSError:
        return path.suffix == BUNDLE_SUFFIX
