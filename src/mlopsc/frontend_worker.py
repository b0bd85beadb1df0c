"""The part of an import that runs a framework, in a worker process: load, export, run the original.

What it leaves in its folder are the files of ``schema/export.py``. A hostile file meets a process
with limits of memory and time, without network and without programs (``sandbox``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from mlopsc.drawing import SEED
from mlopsc.dtypes import BY_ONNX_CODE
from mlopsc.errors import ConversionError, InputError, MlopscError
from mlopsc.frontends import CannotRun, Exported, LoadOptions, Original, RawInput, frontend
from mlopsc.importer import SYNTHESISED, load_onnx
from mlopsc.reference import Reference
from mlopsc.schema.common import TensorSpec, digest_file
from mlopsc.schema.export import EXPORT_FILE, RUNS_FILE, Export
from mlopsc.schema.import_options import ImportOptions
from mlopsc.vectors_file import fit, load_vectors, read_samples

Array = np.ndarray[Any, Any]
DRAWN: Final = SYNTHESISED + 16  # runs of the original on inputs that are drawn
MAX_GIVEN: Final = 64  # runs on the user's vectors
_STRING: Final = "string"


def export_model(
    *, source: str, framework: str, what: str, digest: str, folder: str, options: Mapping[str, Any]
) -> None:
    """Load ``source`` with the frontend ``framework``, export it and run it.

    Raises:
        SourceError, UnsafeSourceError, ConversionError, MissingToolError: See ``mlopsc.errors``.
    """
    chosen = ImportOptions.from_json(options)
    original = frontend(framework).load(Path(source), load_options(chosen))
    export_original(original, framework, what, digest, Path(folder), chosen)


def load_options(options: ImportOptions) -> LoadOptions:
    """Return what frontends want to know of ``options``."""
    return LoadOptions(
        # What the user puts in front of the model replaces what is found there.
        split=options.split and options.preprocess is None and options.postprocess is None,
        signature=options.signature,
        trust=options.trust,
        bind=options.bind,
    )


def export_original(
    original: Original,
    framework: str,
    what: str,
    digest: str | None,
    folder: Path,
    options: ImportOptions,
) -> Exported:
    """Export a loaded model into ``folder``, run it, and write down what came of it.

    Args:
        original: The model.
        framework: Its frontend.
        what: What it is, in words.
        digest: Of its source; that of the exported file if it has none.
        folder: An empty folder.
        options: How to import.
    """
    done = _export(original, framework, folder, load_options(options))
    record = Export(
        framework=framework,
        what=what,
        digest=digest or digest_file(done.model),
        version=original.version,
        written_by=original.written_by,
        converter=done.converter,
        preprocessing=done.preprocessing,
        postprocessing=done.postprocessing,
        notes=done.notes,
        frameworks=original.frameworks,
        configuration=dict(original.configuration),
        tolerance=original.tolerance,
    )
    record = _run_original(original, done, record, folder, options)
    (folder / EXPORT_FILE).write_text(record.to_json(), encoding="utf-8")
    return done


def _export(original: Original, framework: str, folder: Path, options: LoadOptions) -> Exported:
    try:
        return original.export(folder, options)
    except (MlopscError, MemoryError):
        raise
    except Exception as error:  # converters raise whatever comes
        text = " ".join(str(error).split())
        raise ConversionError(
            f"the model cannot be exported with {original.version or framework}: "
            f"{type(error).__name__}: {text[:500]}"
        ) from error


def _run_original(
    original: Original, done: Exported, record: Export, folder: Path, options: ImportOptions
) -> Export:
    """Run the original on the user's vectors and on drawn inputs, and keep what it gives."""
    first = load_onnx(done.preprocess or done.model).proto
    inputs = signature(first, options.bind)
    if inputs is None:
        return record.model_copy(update={"reason": "the signature has open dimensions"})
    whole = options.preprocess is None and options.postprocess is None
    samples = list(_given(inputs, options))
    given = len(samples)
    rng = np.random.Generator(np.random.PCG64(SEED))
    for number in range(DRAWN):
        samples.append(original.draw(rng, inputs, last=number == SYNTHESISED - 1))
    arrays: dict[str, Array] = {}
    try:
        for number, sample in enumerate(samples):
            answer = original.run(sample)
            arrays |= {f"in.{number}.{name}": _plain(value) for name, value in sample.items()}
            arrays |= {f"out.{number}.{name}": _plain(value) for name, value in answer.items()}
    except CannotRun as reason:
        return record.model_copy(update={"reason": str(reason)})
    np.savez(folder / RUNS_FILE, allow_pickle=False, **arrays)
    return record.model_copy(
        update={
            "compared": True,
            "given": given,
            "runs": len(samples),
            "whole": whole,
            "tolerance": original.tolerance,  # some know it when they have run
        }
    )


def signature(model: onnx.ModelProto, bind: Mapping[str, int]) -> list[RawInput] | None:
    """Return the inputs of ``model`` with every dimension bound, or None if one stays open.

    As at import: an open first axis is the batch, 1 by default.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        shape: list[int] = []
        for axis, dim in enumerate(kind.shape.dim):
            place = f"{value.name}:{axis}"
            size = dim.dim_value if dim.HasField("dim_value") else None
            for key in (dim.dim_param, place):
                size = bind.get(key, size) if size is None and key else size
            if size is None and axis == 0:
                size = 1
            if size is None:
                return None
            shape.append(size)
        if kind.elem_type != onnx.TensorProto.STRING and kind.elem_type not in BY_ONNX_CODE:
            return None
        dtype = (
            _STRING
            if kind.elem_type == onnx.TensorProto.STRING
            else BY_ONNX_CODE[kind.elem_type].name
        )
        found.append(RawInput(value.name, dtype, tuple(shape)))
    return found


def _given(inputs: Sequence[RawInput], options: ImportOptions) -> Iterator[dict[str, Array]]:
    """Yield the user's vectors as inputs of the model."""
    if options.vectors is None:
        return
    if options.preprocess is None:
        if any(i.dtype == _STRING for i in inputs):
            yield from _given_strings(inputs, options.vectors)
            return
        specs = [TensorSpec(name=i.name, dtype=i.dtype, shape=i.shape) for i in inputs]  # type: ignore[arg-type]
        samples, _ = load_vectors(options.vectors, specs)
        yield from samples[:MAX_GIVEN]
        return
    loaded = load_onnx(options.preprocess)
    raw = signature(loaded.proto, options.bind) or []
    specs = [TensorSpec(name=i.name, dtype=i.dtype, shape=i.shape) for i in raw]  # type: ignore[arg-type]
    samples, _ = load_vectors(options.vectors, specs)
    reference = Reference([loaded.as_stage("preprocess")])
    for sample in samples[:MAX_GIVEN]:
        found = reference.run(sample)
        yield {i.name: found[i.name] for i in inputs}


def _given_strings(inputs: Sequence[RawInput], path: Path) -> Iterator[dict[str, Array]]:
    """Yield vectors of which some are strings: no table has places for them yet.

    Raises:
        InputError: The file cannot be read or does not fit the signature.
    """
    arrays, _ = read_samples(path, [i.name for i in inputs])
    for number in range(min(MAX_GIVEN, *(len(array) for array in arrays.values()))):
        sample = {}
        for given in inputs:
            array = arrays[given.name][number]
            if given.dtype != _STRING:
                spec = TensorSpec(name=given.name, dtype=given.dtype, shape=given.shape)  # type: ignore[arg-type]
                array = fit(array, spec)
            elif array.dtype.kind not in "SU" or array.size != math.prod(given.shape):
                raise InputError(
                    f"input '{given.name}' is {array.dtype.name}{list(array.shape)}, expected "
                    f"strings{list(given.shape)}"
                )
            sample[given.name] = array.reshape(given.shape)
        yield sample


def _plain(value: Array) -> Array:
    """Return ``value`` in a type that NumPy's files have: strings in NumPy's own.

    Types that NumPy lacks become float32, which holds all that they can be.
    """
    value = np.asarray(value)
    if value.dtype.kind in "OSU":
        return value.astype(str)
    return value if value.dtype.isbuiltin == 1 else value.astype(np.float32)
