"""Preprocessing in lock-step: what trains a model and what ships with it are one ONNX graph.

``as_onnx`` and ``write_onnx`` make ONNX files of what people write, in a worker process;
``load_preprocess`` runs such a graph, or that of a bundle, with the reference runtime.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlopsc.errors import InputError, OutputError, SourceError
from mlopsc.schema.bundle import is_bundle
from mlopsc.schema.common import TensorSpec, digest_bytes
from mlopsc.schema.graph import StageGraph
from mlopsc.schema.import_options import ImportOptions
from mlopsc.steps import is_source, script_parts
from mlopsc.tools import IMPORT_TIMEOUT_S, run_worker

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_MEMORY = 4 << 30  # of a conversion of steps; a user's own code takes what it needs


@dataclass(frozen=True)
class Converted:
    """A graph that was written as an ONNX file.

    Attributes:
        digest: Of the file.
        inputs: Names, types and shapes, such as ``image: uint8[batch, 8, 8]``.
        outputs: The same of the outputs.
    """

    digest: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@contextmanager
def as_onnx(options: ImportOptions) -> Iterator[ImportOptions]:
    """Yield ``options`` whose graphs are ONNX files, made for the time of the block.

    Raises:
        SourceError, MissingToolError: One cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="mlopsc-steps-") as name:
        made: dict[str, Path | None] = {}
        for stage in ("preprocess", "postprocess"):
            made[stage] = path = getattr(options, stage)
            if path is None:
                continue
            _check_graph(path, stage)
            if is_source(path):
                made[stage] = ready = Path(name) / f"{stage}.onnx"
                _convert(path, ready)
        yield replace(options, preprocess=made["preprocess"], postprocess=made["postprocess"])


def check_onnx_output(source: Path, output: Path) -> None:
    """Refuse an output that is no ONNX file by its name, or is the source.

    Raises:
        OutputError: It is one of them.
    """
    if output.suffix != ".onnx":
        raise OutputError(
            f"the output is '{output}'; expected a name that ends in .onnx",
            hint="choose a name such as preprocess.onnx",
        )
    parts = script_parts(source)
    file = source if parts is None else parts[0]
    try:
        same = output.samefile(file)
    except OSError:
        return  # one is not there
    if same:
        raise OutputError(
            f"the output '{output}' is the source itself; expected another path",
            hint="choose another path for -o",
        )


def write_onnx(source: Path, output: Path) -> Converted:
    """Write the ONNX file of ``source``, which may be one already, to ``output``.

    Args:
        source: Steps, a Python file, or an ONNX file without external data.
        output: A path that is free.

    Raises:
        SourceError, MissingToolError: It cannot be made.
    """
    import onnx

    _convert(source, output)
    data = output.read_bytes()
    graph = onnx.load_model_from_string(data).graph
    constants = {tensor.name for tensor in graph.initializer}
    return Converted(
        digest_bytes(data),
        tuple(_render(value) for value in graph.input if value.name not in constants),
        tuple(_render(value) for value in graph.output),
    )


def _check_graph(source: Path, stage: str) -> None:
    """Refuse what holds a graph but is none.

    Raises:
        SourceError: It is a bundle or a folder, which may be a package.
    """
    if is_bundle(source) and source.exists():
        raise SourceError(
            f"'{source}' is a bundle; expected an ONNX file, steps or a Python file",
            hint=f"take the graph out of it: unzip {source} {stage}.onnx",
        )
    if source.is_dir():
        raise SourceError(
            f"'{source}' is a folder; expected an ONNX file, steps or a Python file",
            hint="if it is a package, use the bundle (.mlb) that it was built from",
        )


def _convert(source: Path, output: Path) -> None:
    _check_graph(source, "preprocess")
    steps, script = is_source(source), script_parts(source) is not None
    run_worker(
        "mlopsc.steps.convert:convert_file" if steps else "mlopsc.import_worker:copy_graph",
        {"source": str(source), "output": str(output.resolve())},
        crash=SourceError,
        label=f"the conversion of '{source}'",
        hint="run it with Python: it ends, or does not end, before it is translated"
        if script
        else "",
        timeout=IMPORT_TIMEOUT_S,
        memory=None if script else _MEMORY,
    )


def _render(value: Any) -> str:
    """Return name, type and shape of an input or output; names of sizes stay."""
    from mlopsc.dtypes import BY_ONNX_CODE

    tensor = value.type.tensor_type
    known = BY_ONNX_CODE.get(tensor.elem_type)
    sizes = [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?")
             for d in tensor.shape.dim]  # fmt: skip
    return f"{value.name}: {known.name if known else 'string'}[{', '.join(sizes)}]"


def load_preprocess(source: str | Path) -> Preprocess:
    """Return the preprocessing of a bundle, or of a source, as something to call.

    Args:
        source: A bundle, an ONNX file, steps (``.yaml``, ``.json``) or a Python file written with
            onnxscript (``file.py``, ``file.py:function``).

    Raises:
        InputError: It is a bundle without preprocessing.
        BrokenBundleError: It is a damaged bundle.
        SourceError, MissingToolError: It cannot be made an ONNX file.
    """
    path = Path(source)
    if is_bundle(path):
        from mlopsc.bundle import graph_signature, read_bundle

        stage = next((s for s in read_bundle(path).stages if s.name == "preprocess"), None)
        if stage is None:
            raise InputError(
                f"'{path}' has no preprocessing",
                hint="import the model with --preprocess",
            )
        inputs, outputs = graph_signature(stage.model)
        return Preprocess(stage, inputs, outputs, stage.digest)
    with tempfile.TemporaryDirectory(prefix="mlopsc-steps-") as name:
        made = Path(name) / "preprocess.onnx"
        _convert(path, made)
        data = made.read_bytes()
    stage, inputs, outputs = _bound(data, path)
    return Preprocess(stage, inputs, outputs, digest_bytes(data))


def _bound(
    data: bytes, source: Path
) -> tuple[StageGraph, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the graph of an ONNX file with its signature for one sample.

    Raises:
        SourceError: A size besides the first is open, or an output is of no known type.
    """
    import onnx

    from mlopsc.bundle import graph_signature
    from mlopsc.labels import METADATA_KEY

    graph = StageGraph("preprocess", data)
    model = onnx.load_model_from_string(data)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    for value in (*inputs, *model.graph.output):
        tensor = value.type.tensor_type
        for axis, dim in enumerate(tensor.shape.dim):
            if not dim.HasField("dim_value"):
                if axis:
                    raise SourceError(
                        f"'{source}': axis {axis} of '{value.name}' is open; expected a number"
                    )
                dim.dim_value = 1
        labelled = any(entry.key == METADATA_KEY for entry in value.metadata_props)
        if tensor.elem_type == onnx.TensorProto.STRING and labelled:
            tensor.elem_type = onnx.TensorProto.INT64  # places in the table beside it
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    try:
        return graph, *graph_signature(model.SerializeToString())
    except ValueError as error:
        raise SourceError(f"'{source}' has a signature that is not supported: {error}") from error


class Preprocess:
    """A preprocessing graph to call, NumPy in, NumPy out.

    Attributes:
        inputs: Names, types and shapes of what goes in: one sample, a batch being 1.
        outputs: The same of what comes out.
        digest: Of the ONNX file; of a bundle, of the preprocessing it ships.
    """

    def __init__(
        self,
        stage: StageGraph,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        digest: str,
    ) -> None:
        """Open the graph in the reference runtime.

        Raises:
            SourceError: The runtime refuses it.
        """
        from mlopsc.reference import Reference

        self._reference = Reference([stage])
        self.inputs, self.outputs, self.digest = tuple(inputs), tuple(outputs), digest

    def __call__(
        self, inputs: Mapping[str, Array] | Array | None = None, /, **named: Array
    ) -> dict[str, Array]:
        """Run on one sample, or on several.

        Several samples lie along a first axis, which stands for the batch of 1 if the input has
        one. They are done one after the other, as they will be where the model runs, and so are
        what comes out.

        Args:
            inputs: Arrays by input name, or the array of the only input.
            named: Arrays as keywords, where names allow it.

        Returns:
            New arrays by output name.

        Raises:
            InputError: An array is missing, unknown, or has another type or shape.
        """
        import numpy as np

        given = {**self._by_name(inputs), **named}
        arrays = {name: np.asarray(array) for name, array in given.items()}
        count = self._count(arrays)
        if count is None:
            return self._run(arrays)
        done = [
            self._run({s.name: arrays[s.name][k].reshape(s.shape) for s in self.inputs})
            for k in range(count)
        ]
        return {spec.name: _join([one[spec.name] for one in done], spec) for spec in self.outputs}

    def _by_name(self, inputs: Mapping[str, Array] | Array | None) -> dict[str, Array]:
        if inputs is None or isinstance(inputs, Mapping):
            return dict(inputs or {})
        if len(self.inputs) != 1:
            names = ", ".join(spec.name for spec in self.inputs)
            raise InputError(
                f"got one array; expected one for each input: {names}",
                hint="give them as keywords",
            )
        return {self.inputs[0].name: inputs}

    def _count(self, arrays: Mapping[str, Array]) -> int | None:
        """Return how many samples there are, or None if ``arrays`` are one as it is."""
        counts: set[int | None] = set()
        for spec in self.inputs:
            if spec.name not in arrays:
                return None  # said by who checks one sample
            shape = arrays[spec.name].shape
            batched = shape[:1] and (
                shape[1:] == spec.shape or (spec.shape[:1] == (1,) and shape[1:] == spec.shape[1:])
            )
            counts.add(None if shape == spec.shape or not batched else shape[0])
        if len(counts) > 1 or 0 in counts:
            shapes = {name: list(array.shape) for name, array in arrays.items()}
            raise InputError(
                f"the inputs have shapes {shapes}; expected the same number of samples of "
                f"{', '.join(map(str, self.inputs))}, at least 1",
                hint="the first axis counts samples",
            )
        return counts.pop()

    def _run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        from mlopsc.loader import check_inputs

        found = self._reference.run(check_inputs(arrays, self.inputs))
        return {spec.name: found[spec.name] for spec in self.outputs}


def _join(parts: Sequence[Array], spec: TensorSpec) -> Array:
    """Return the outputs of several samples along a first axis, in place of a batch of 1."""
    import numpy as np

    together: Array = np.stack(parts)
    return together.reshape(-1, *spec.shape[1:]) if spec.shape[:1] == (1,) else together
