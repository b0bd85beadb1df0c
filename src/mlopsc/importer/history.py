"""The history of a bundle: what trained the model, and what was imported.

Ensures: where it is known which preprocessing trained the model, the bundle ships that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlopsc.documents import import_versions
from mlopsc.errors import LockstepError
from mlopsc.importer.onnx_file import LoadedModel
from mlopsc.lineage_file import load_lineage
from mlopsc.schema.attestation import IMPORT_TYPE, Provenance, Resource, provenance, resource
from mlopsc.schema.bundle import StageName
from mlopsc.schema.common import Digest, digest_file
from mlopsc.schema.export import Export
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.import_options import ImportOptions
from mlopsc.schema.lineage import Framework, Lineage


def history(
    options: ImportOptions, loaded: Mapping[StageName, LoadedModel], export: Export | None = None
) -> Lineage:
    """Return what is known of the model's history: what people say, and what its file says.

    Raises:
        LineageError: The lineage file is not valid.
    """
    lineage = Lineage() if options.lineage is None else load_lineage(options.lineage)
    if export is not None and export.configuration and not lineage.configuration:
        lineage = lineage.model_copy(update={"configuration": export.configuration})
    if export is not None and export.frameworks and not lineage.frameworks:
        return lineage.model_copy(update={"frameworks": export.frameworks})
    producer = loaded["model"].source.producer
    if lineage.frameworks or not producer:
        return lineage
    name, _, version = producer.rpartition(" ")
    framework = Framework(name=name or version, version=version if name else "")
    return lineage.model_copy(update={"frameworks": (framework,)})


def trained_with(
    options: ImportOptions,
    lineage: Lineage,
    loaded: Mapping[StageName, LoadedModel],
    graphs: Sequence[StageGraph],
) -> Digest | None:
    """Return the digest of the bundle's preprocessing graph, if it is known to have trained.

    The user, or the lineage, names it by the file that is given here or by the graph in a bundle.

    Raises:
        LockstepError: Another one trained the model.
    """
    said = {d for d in (options.trained_with, lineage.preprocessing) if d is not None}
    if not said:
        return None
    shipped = next((g.digest for g in graphs if g.name == "preprocess"), None)
    if shipped is None:
        raise LockstepError(
            f"the model was trained with preprocessing {min(said)}, and none is given",
            hint="give it with --preprocess",
        )
    given = loaded["preprocess"].source.digest
    for digest in sorted(said):
        if digest not in (given, shipped):
            raise LockstepError(
                f"the preprocessing that is given, {given} ({shipped} in normal form), is not the "
                f"one that trained the model, {digest}"
            )
    return shipped


def import_provenance(
    source: Path, options: ImportOptions, loaded: Mapping[StageName, LoadedModel], reference: str
) -> Provenance:
    """Return how the bundle is made: digests, no names of files, paths, times or users."""
    read: list[Resource] = [
        resource(stage, model.source.digest, kind="graph") for stage, model in loaded.items()
    ]
    for role, path in (("vectors", options.vectors), ("lineage", options.lineage)):
        if path is not None:
            read.append(resource(role, digest_file(path), kind="file"))
    return provenance(
        IMPORT_TYPE,
        external={
            "bind": dict(sorted(options.bind.items())),
            "name": options.name or source.stem,
            "trainedWith": options.trained_with,
            "version": options.version,
        },
        internal={"reference": reference},
        dependencies=read,
        versions=import_versions(),
    )
