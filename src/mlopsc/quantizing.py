"""Quantises a float bundle into a new one; see ``quantizer`` for the stage itself.

The quantised model goes through the import like any other. The new bundle has the float one as its
parent, and its provenance says with which options and data it was quantised.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from mlopsc.bundle import Bundle, list_files, pack, read_bundle, write_bundle
from mlopsc.cache import open_cache
from mlopsc.documents import bundle_documents, import_versions, lineage_of
from mlopsc.errors import QuantizationError
from mlopsc.import_job import import_to
from mlopsc.outputs import atomic_file, check_free
from mlopsc.pipeline import NOT_SIGNED, Progress, as_bundle
from mlopsc.schema.attestation import QUANTIZE_TYPE, Provenance, Resource, provenance, resource
from mlopsc.schema.build_options import UNSIGNED
from mlopsc.schema.bundle import Manifest, StageRecord, is_bundle
from mlopsc.schema.common import digest_bytes
from mlopsc.schema.import_options import ImportOptions
from mlopsc.schema.lineage import Dataset, Lineage, Metric, ParentModel
from mlopsc.schema.quantize import (
    QUANTIZED_MODEL,
    QUANTIZED_REPORT,
    QUANTIZED_VECTORS,
    DataUsed,
    QuantizeOptions,
    QuantizeReport,
)
from mlopsc.tools import IMPORT_TIMEOUT_S, run_worker
from mlopsc.trust.artefact import Artefact, open_artefact
from mlopsc.trust.log import record_artefact
from mlopsc.trust.policy import TrustOptions, authorise
from mlopsc.trust.revocations import read_revocations

_DEFAULTS = QuantizeOptions()
_NOBODY = TrustOptions()
_AS_THEY_ARE = ImportOptions()
_TIMEOUT_S = 4 * 3600.0  # sensitivities of a large model take long
# Copies of the model and the values of many samples are in memory together.
_MEMORY_BASE = 16 << 30
_MEMORY_PER_BYTE = 16
_ON_VECTORS = "test vectors"  # the data set of metrics that are measured on them


@dataclass(frozen=True)
class Quantization:
    """A quantised bundle, and what the quantisation cost."""

    bundle: Bundle
    report: QuantizeReport


def quantize(
    source: Path,
    output: Path,
    options: QuantizeOptions = _DEFAULTS,
    *,
    calibration: Path | None = None,
    evaluation: Path | None = None,
    report: Path | None = None,
    imports: ImportOptions = _AS_THEY_ARE,
    trust: TrustOptions = _NOBODY,
    force: bool = False,
    cache: bool = True,
    progress: Progress = lambda target, what: None,
) -> Quantization:
    """Quantise a float model and write the bundle of the quantised one.

    Args:
        source: A bundle, or an ONNX file that is imported first.
        output: The new bundle.
        options: How to quantise.
        calibration: File or folder of samples that give the ranges of values; the bundle's
            vectors by default.
        evaluation: File or folder of samples to measure on; by default the bundle's vectors if
            they were given, else the calibration samples.
        report: Where the report is written as JSON, if it is.
        imports: How to import, if ``source`` is not a bundle; of one, name and version may be
            other ones than the float model's.
        trust: Whom to believe, if ``source`` is a signed bundle.
        force: Replace what exists.
        cache: Whether the float import may come from the cache.
        progress: Called with what is worked on, and what is being done.

    Raises:
        MlopscError: See ``mlopsc.errors``; nothing is written then.
    """
    if report is not None:
        check_free(report, force=force)
    with (
        tempfile.TemporaryDirectory(prefix="mlopsc-quantize-") as folder,
        atomic_file(output, force=force) as path,
    ):
        work = Path(folder)
        rest = replace(imports, name=None, version="0") if is_bundle(source) else imports
        found = as_bundle(source, rest, work, open_cache(enabled=cache), progress)
        parent = open_artefact(found)
        signer, allowed = authorise(parent, trust)
        if signer == UNSIGNED and found == source:
            progress("bundle", NOT_SIGNED)
        progress("model", "quantising")
        done = _run(found, parent, options, calibration, evaluation, work)
        progress("model", "importing the quantised model")
        imported = _import(parent, work, imports)
        done = _with_arithmetic(done, imported.manifest)
        write_bundle(_finish(parent, imported, done, signer), path)
        artefact = open_artefact(path)
        read_revocations(trust.revocations).check(output, artefact.ancestors())
        if report is not None:
            with atomic_file(report, force=force) as new:
                new.write_text(done.to_json(), encoding="utf-8")
        record_artefact("quantize", artefact, output, allowed=list(allowed))
        return Quantization(artefact.require_bundle(), done)


def _run(
    path: Path,
    parent: Artefact,
    options: QuantizeOptions,
    calibration: Path | None,
    evaluation: Path | None,
    work: Path,
) -> QuantizeReport:
    """Quantise in a worker process that fills ``work``; return the report."""
    run_worker(
        "mlopsc.quantize_worker:quantize_file",
        {
            "source": str(path.resolve()),
            "digest": parent.digest,
            "options": options.model_dump(mode="json"),
            "calibration": None if calibration is None else str(calibration),
            "evaluation": None if evaluation is None else str(evaluation),
            "folder": str(work),
        },
        crash=QuantizationError,
        label=f"the quantisation of '{parent.name}'",
        timeout=_TIMEOUT_S,
        memory=_MEMORY_BASE + _MEMORY_PER_BYTE * path.stat().st_size,
    )
    return QuantizeReport.from_file(work / QUANTIZED_REPORT)


def _import(parent: Artefact, work: Path, named: ImportOptions) -> Bundle:
    """Import the quantised model with the stages and vectors of its parent."""
    manifest = parent.require_bundle().manifest
    stages = {stage.name for stage in manifest.stages}
    graphs = {s: work / f"{s}.onnx" if s in stages else None for s in ("preprocess", "postprocess")}
    options = ImportOptions(
        preprocess=graphs["preprocess"],
        postprocess=graphs["postprocess"],
        vectors=work / QUANTIZED_VECTORS,
        name=named.name or manifest.name,
        version=manifest.version if named.version == _AS_THEY_ARE.version else named.version,
        trained_with=manifest.trained_with,
        find_lineage=False,
    )
    path = work / "imported.mlb"
    import_to(
        work / QUANTIZED_MODEL,
        path,
        options,
        shown=path,
        timeout=IMPORT_TIMEOUT_S,
        cache=open_cache(enabled=False),
    )
    return read_bundle(path)


def _with_arithmetic(report: QuantizeReport, manifest: Manifest) -> QuantizeReport:
    """Return ``report`` with what the import found out about the integers."""
    arithmetic, warnings = manifest.vectors.arithmetic, report.warnings
    if arithmetic != "integer" and not report.kept_float:
        warnings = (*warnings, "parts of the model have no integer form and are computed in float")
    found = manifest.integers
    if found is not None and found.decisions < 1:
        warnings = (
            *warnings,
            f"the integers decide as measured here on {found.decisions:.1%} of the vectors",
        )
    return report.model_copy(
        update={"arithmetic": arithmetic, "integers": manifest.integers, "warnings": warnings}
    )


def _finish(parent: Artefact, imported: Bundle, report: QuantizeReport, signer: str) -> Bundle:
    """Return ``imported`` with its history: what it was quantised from, how and with which data."""
    before = parent.require_bundle().manifest
    sources = {stage.name: stage for stage in before.stages}
    manifest = imported.manifest.model_copy(
        update={
            "stages": tuple(_with_source(s, sources[s.name]) for s in imported.manifest.stages),
            "vectors": imported.manifest.vectors.model_copy(
                update={"origin": before.vectors.origin}
            ),
        }
    )
    lineage = _lineage(parent, report, manifest)
    files = list_files(manifest, imported.stages, imported.vectors)
    made = _provenance(parent, manifest, report, signer)
    documents = bundle_documents(manifest, files, lineage, made)
    return pack(manifest, imported.stages, imported.vectors, documents)


def _with_source(stage: StageRecord, before: StageRecord) -> StageRecord:
    """Return the record of a stage with what was known of it before: sizes, and where it is from.

    The quantised model is a new file; the other graphs are the old ones.
    """
    known = {"bound": before.bound}
    return stage.model_copy(
        update=known if stage.name == "model" else {**known, "source": before.source}
    )


def _lineage(parent: Artefact, report: QuantizeReport, manifest: Manifest) -> Lineage:
    """Return the history of the float model, and what was done to it since."""
    known = lineage_of(parent.require_bundle().documents) or Lineage()
    roles = {"calibration": report.calibration, "test": report.measured}
    data = [_dataset(used, role) for role, used in roles.items() if used.digest is not None]
    listed = {(d.name, d.version, d.role) for d in known.datasets}
    new = [d for d in data if (d.name, d.version, d.role) not in listed]
    origin = ParentModel(
        name=f"{parent.name} {parent.version}", digest=parent.digest, relation="quantised"
    )
    return known.model_copy(
        update={
            "datasets": (*known.datasets, *new),
            "metrics": tuple(_metrics(report)),  # those of the float model were not measured here
            "parents": (*known.parents, origin),
            "preprocessing": manifest.trained_with,
        }
    )


def _dataset(used: DataUsed, role: str) -> Dataset:
    return Dataset.model_validate({"name": used.name, "digest": used.digest, "role": role})


def _metrics(report: QuantizeReport) -> list[Metric]:
    """Return accuracy, and recall by class, so that harm to a small one shows."""
    found = report.labelled
    if found is None:
        return []
    data = report.measured.name or _ON_VECTORS
    accuracy = Metric(name="accuracy", value=found.quantized_correct / found.samples, dataset=data)
    return [
        accuracy,
        *(
            Metric(
                name="recall",
                value=one.quantized_correct / one.samples,
                dataset=data,
                slice=f"class {one.label}",
            )
            for one in found.classes
        ),
    ]


def _provenance(
    parent: Artefact, manifest: Manifest, report: QuantizeReport, signer: str
) -> Provenance:
    bundle = parent.require_bundle()
    read: list[Resource] = [resource(parent.name, parent.digest, kind="bundle")]
    read += [resource(s.name, s.source.digest, kind="graph") for s in bundle.manifest.stages]
    for role, used in (("calibration", report.calibration), ("evaluation", report.measured)):
        if used.digest is not None:
            read.append(resource(role, used.digest, kind="dataset"))
    return provenance(
        QUANTIZE_TYPE,
        external={
            **report.options.model_dump(mode="json"),
            "name": manifest.name,
            "version": manifest.version,
        },
        internal={
            "bundleSigner": signer,
            "inputs": [edge.model_dump(mode="json") for edge in report.inputs_integer],
            "keptFloat": list(report.kept_float),
            "outputs": [edge.model_dump(mode="json") for edge in report.outputs_integer],
            "reference": manifest.vectors.reference,
            "report": digest_bytes(report.to_json().encode()),
        },
        dependencies=read,
        versions=import_versions(),
    )
