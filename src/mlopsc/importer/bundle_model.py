"""Drives an import: load, normalise, join the stages' signatures, make vectors, pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from mlopsc._version import __version__
from mlopsc.bundle import Bundle, Vector, graph_signature, list_files, pack
from mlopsc.documents import bundle_documents
from mlopsc.errors import MlopscError, OpenShapeError, SourceError
from mlopsc.importer.framework import Runs, compare_with_framework, read_runs
from mlopsc.importer.history import history, import_provenance, trained_with
from mlopsc.importer.integers import compare_integers
from mlopsc.importer.make_vectors import SYNTHESISED, answer, synthesise
from mlopsc.importer.normalise import normalise
from mlopsc.importer.normalise.sequence_inputs import bind_sequences
from mlopsc.importer.normalise.upgrade import OPSET
from mlopsc.importer.normalise.zip_maps import drop_zip_maps
from mlopsc.importer.onnx_file import LoadedModel, load_onnx
from mlopsc.importer.origin import compare_with_origin
from mlopsc.integer import ExactReference
from mlopsc.reference import Reference
from mlopsc.schema.bundle import (
    STAGES,
    FrameworkCheck,
    Manifest,
    Source,
    StageName,
    StageRecord,
    VectorsRecord,
)
from mlopsc.schema.common import TensorSpec, c_identifier
from mlopsc.schema.export import Export
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.import_options import ImportOptions
from mlopsc.vectors_file import load_vectors

# The standard headers of C, ours, and the example's.
_HEADERS = frozenset(
    {
        "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits",
        "locale", "main", "math", "mlopsc", "mlopsc_math", "mlopsc_math_bits", "mlopsc_trees",
        "mlopsc_trees_body", "setjmp", "signal",
        "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib",
        "stdnoreturn", "string", "tgmath", "threads", "time", "uchar", "unistd", "vector",
        "wchar", "wctype",
    }
)  # fmt: skip


def import_bundle(source: Path, options: ImportOptions, exported: Path | None = None) -> Bundle:
    """Return the bundle of ``source``.

    Args:
        source: ONNX file.
        options: How to import.
        exported: The folder that a frontend has left, with ``source`` in it.

    Raises:
        SourceError, UnsupportedOpError, OpenShapeError, InputError, DivergenceError: See
            ``mlopsc.errors``.
    """
    runs = None if exported is None else read_runs(exported)
    paths: dict[StageName, Path | None] = {
        "preprocess": options.preprocess,
        "model": source,
        "postprocess": options.postprocess,
    }
    loaded = {name: load_onnx(path) for name in STAGES if (path := paths[name]) is not None}
    bind = dict(options.bind)
    for name, model in loaded.items():
        proto, used = bind_sequences(drop_zip_maps(model.proto), options.bind)
        loaded[name] = LoadedModel(proto, model.source)
        bind = {key: size for key, size in bind.items() if key not in used}
    if runs is not None:
        loaded = {name: _of_export(model, runs.export) for name, model in loaded.items()}
    originals = [model.as_stage(name) for name, model in loaded.items()]
    records, graphs = _normalise_all(loaded, bind)
    signatures = [graph_signature(g.model) for g in graphs]
    for (before, (_, outputs)), (after, (inputs, _)) in zip(
        zip(graphs, signatures, strict=True),
        zip(graphs[1:], signatures[1:], strict=True),
        strict=False,
    ):
        _check_joint(before.name, outputs, after.name, inputs)
    inputs, outputs = signatures[0][0], signatures[-1][1]
    exact = ExactReference(graphs)
    quantised = exact.arithmetic != "float"
    # Fused kernels of the runtime round differently from the operators that the model is made of.
    reference = Reference(graphs, literal=True) if quantised else Reference(graphs)
    if options.vectors is not None:
        samples, labels = load_vectors(options.vectors, inputs)
        vectors = answer(reference, samples)
    elif runs is not None and runs.export.compared and runs.export.whole:
        vectors, labels = answer(reference, runs.drawn(SYNTHESISED, inputs)), ()
    else:
        vectors, labels = synthesise(inputs, reference), ()
    _check_outputs(vectors, outputs)
    origin = compare_with_origin(originals, vectors, inputs, outputs)
    checked = None
    if quantised:
        vectors, checked = compare_integers(exact, reference, vectors, outputs)
    framework = _compare(runs, graphs, exact, reference, options)
    lineage = history(options, loaded, runs.export if runs is not None else None)
    manifest = Manifest(
        name=_model_name(options.name or source.stem),
        version=options.version,
        created_by=f"mlopsc {__version__}",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        stages=tuple(records),
        trained_with=trained_with(options, lineage, loaded, graphs),
        vectors=VectorsRecord(
            count=len(vectors),
            origin="given" if options.vectors is not None else "synthesised",
            labels=labels,
            reference=exact.version if quantised else reference.version,
            arithmetic=exact.arithmetic,
        ),
        origin=origin,
        framework=framework,
        integers=checked,
        files=(),
    )
    made = import_provenance(source, options, loaded, reference.version)
    files = list_files(manifest, graphs, vectors)
    return pack(manifest, graphs, vectors, bundle_documents(manifest, files, lineage, made))


def _of_export(model: LoadedModel, export: Export) -> LoadedModel:
    """Return ``model``, which a frontend has made, with where that came from."""
    producer = export.written_by or export.version
    source = Source(framework=export.framework, producer=producer, digest=export.digest)
    return LoadedModel(model.proto, source)


def _compare(
    runs: Runs | None,
    graphs: Sequence[StageGraph],
    exact: ExactReference,
    reference: Reference,
    options: ImportOptions,
) -> FrameworkCheck | None:
    """Compare with the framework's original, without the graphs that the user has put around it."""
    if runs is None:
        return None
    if not runs.export.whole:
        given = {"preprocess": options.preprocess, "postprocess": options.postprocess}
        graphs = [graph for graph in graphs if given.get(graph.name) is None]
        exact = ExactReference(graphs)
        reference = Reference(graphs)
    answer = exact.run if exact.arithmetic != "float" else reference.run
    signatures = [graph_signature(graph.model) for graph in graphs]
    return compare_with_framework(
        runs, answer, signatures[0][0], signatures[-1][1], options.accept_divergence
    )


def _check_outputs(vectors: Sequence[Vector], outputs: Sequence[TensorSpec]) -> None:
    """Refuse a model whose declared outputs are not what it computes."""
    for spec in outputs:
        computed = vectors[0].outputs[spec.name]
        if (computed.dtype.name, computed.shape) != (spec.dtype, spec.shape):
            raise SourceError(
                f"the model declares output '{spec}' but computes "
                f"{computed.dtype.name}{list(computed.shape)}",
                hint="export the model again, without output shapes or with the right ones",
            )


def _model_name(text: str) -> str:
    """Return a C identifier whose header ``<name>.h`` hides no other header."""
    name = c_identifier(text)
    return f"{name}_model" if name.lower() in _HEADERS else name


def _normalise_all(
    loaded: Mapping[StageName, LoadedModel], bind: Mapping[str, int]
) -> tuple[list[StageRecord], list[StageGraph]]:
    """Normalise each stage; a binding must fit at least one of them."""
    open_dims = {name: _open_dimensions(model.proto) for name, model in loaded.items()}
    known = {key for dims in open_dims.values() for pair in dims for key in pair}
    for key, size in bind.items():
        if key not in known:
            names = sorted({pair[0] for dims in open_dims.values() for pair in dims}) or ["none"]
            raise OpenShapeError(
                f"--bind {key}={size} fits no dimension of the inputs; the open dimensions are: "
                f"{', '.join(names)}"
            )
    opset = _common_opset(loaded)
    records, graphs = [], []
    made: dict[str, int] = {}  # sizes of what the stages before give, by place
    for name, model in loaded.items():
        own = {key: bind[key] for pair in open_dims[name] for key in pair if key in bind}
        for pair in open_dims[name]:
            if pair[1] in made and not own.keys() & set(pair):
                own[pair[1]] = made[pair[1]]
        try:
            done = normalise(model.proto, own, opset, name)
        except MlopscError:
            raise
        except Exception as error:  # the libraries raise their own on graphs that make no sense
            text = " ".join(str(error.__cause__ or error).split())
            raise SourceError(
                f"the {name} graph cannot be read: {type(error).__name__}: {text[:300]}"
            ) from error
        graphs.append(done.graph)
        for spec in graph_signature(done.graph.model)[1]:
            made |= {f"{spec.name}:{axis}": size for axis, size in enumerate(spec.shape)}
        records.append(
            StageRecord(
                name=name,
                source=model.source,
                opset=done.opset,
                nodes=done.nodes,
                parameters=done.parameters,
                bound=done.bound,
                passes=done.passes,
                findings=done.findings,
            )
        )
    return records, graphs


def _open_dimensions(proto: onnx.ModelProto) -> list[tuple[str, str]]:
    """Return name and place (``input:axis``) of every open dimension; unnamed ones by place."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    found = []
    for value in proto.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if value.name not in constants and not dim.HasField("dim_value"):
                place = f"{value.name}:{axis}"
                found.append((dim.dim_param or place, place))
    return found


def _common_opset(loaded: Mapping[StageName, LoadedModel]) -> int:
    """Return the newest opset among the stages, so that they can be joined."""
    versions = [OPSET] + [
        int(entry.version)
        for model in loaded.values()
        for entry in model.proto.opset_import
        if entry.domain in ("", "ai.onnx")
    ]
    return max(versions)


def _check_joint(
    before: str, outputs: Sequence[TensorSpec], after: str, inputs: Sequence[TensorSpec]
) -> None:
    given = {o.name: o for o in outputs}
    for wanted in inputs:
        if wanted.name not in given:
            raise SourceError(
                f"the {after} stage takes '{wanted}', which the {before} stage does not give; "
                f"it gives: {', '.join(map(str, outputs))}",
                hint="name the outputs of each stage like the inputs of the next",
            )
        if given[wanted.name] != wanted:
            raise SourceError(
                f"the {before} stage gives '{given[wanted.name]}' where the {after} stage takes "
                f"'{wanted}'"
            )
    unused = sorted(set(given) - {i.name for i in inputs})
    if unused:
        raise SourceError(f"the {before} stage gives '{unused[0]}', which nothing takes")
