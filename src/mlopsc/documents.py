"""The documents of a bundle: its history, how it was made, and its bill of materials.

They are about the other members, so they are made when everything else is there, and the manifest
lists them like any member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from mlopsc._version import __version__
from mlopsc.errors import BrokenBundleError
from mlopsc.schema.attestation import PROVENANCE_PREDICATE, Provenance, Statement, statement
from mlopsc.schema.bundle import PROVENANCE_FILE, Manifest
from mlopsc.schema.common import FileEntry, digest_bytes
from mlopsc.schema.graph import weights_name
from mlopsc.schema.lineage import LINEAGE_FILE, TRAINING_PREDICATE, Lineage
from mlopsc.schema.sbom import SBOM_FILE

_IMPORT_TOOLS = ("ml-dtypes", "numpy", "onnx", "onnx-ir", "onnxruntime")


def bundle_documents(
    manifest: Manifest, files: Sequence[FileEntry], lineage: Lineage, provenance: Provenance
) -> dict[str, bytes]:
    """Return the documents of a bundle by member.

    Args:
        manifest: Of the bundle, files aside.
        files: Graphs, weights and vectors.
        lineage: How the model came to be.
        provenance: How the bundle was made.
    """
    from mlopsc.sbom import bundle_sbom  # its libraries take long to load, and readers need none

    of_model = {"model.onnx", weights_name("model")}
    trained = [entry for entry in files if entry.path in of_model]
    made = {
        LINEAGE_FILE: statement(trained, TRAINING_PREDICATE, lineage).to_json().encode(),
        PROVENANCE_FILE: statement(files, PROVENANCE_PREDICATE, provenance).to_json().encode(),
    }
    entries = [
        FileEntry(path=p, digest=digest_bytes(d), size=len(d), media_type="application/json")
        for p, d in made.items()
    ]
    listed = tuple(sorted((*files, *entries), key=lambda entry: entry.path))
    sbom = bundle_sbom(manifest.model_copy(update={"files": listed}), lineage)
    return {**made, SBOM_FILE: sbom.encode()}


def lineage_of(documents: Mapping[str, bytes]) -> Lineage | None:
    """Return the lineage among ``documents``; None where the format had none yet.

    Raises:
        BrokenBundleError: It is not a training statement.
    """
    if LINEAGE_FILE not in documents:
        return None
    try:
        found = Statement.model_validate_json(documents[LINEAGE_FILE])
        return Lineage.model_validate(found.predicate)
    except ValueError as error:
        raise BrokenBundleError(f"{LINEAGE_FILE} is not a training statement") from error


def import_versions() -> dict[str, str]:
    """Return the versions of everything that takes part in an import."""
    return {"mlopsc": __version__, **{name: version(name) for name in _IMPORT_TOOLS}}
