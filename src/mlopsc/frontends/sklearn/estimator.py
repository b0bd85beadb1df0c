"""A fitted estimator as an ``Original``: divided, converted in the precision it needs, and run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from mlopsc.drawing import SEED
from mlopsc.errors import ConversionError
from mlopsc.frontends.base import Array, Exported, LoadOptions, Original, RawInput, versions_of
from mlopsc.frontends.onnx_names import rename_values
from mlopsc.frontends.sklearn import answers, measure, split
from mlopsc.frontends.sklearn.columns import find_inputs
from mlopsc.frontends.sklearn.convert import (
    cast_output,
    convert,
    keep_outputs,
    name_inputs,
    second_column,
)
from mlopsc.frontends.sklearn.drawing import Drawing
from mlopsc.frontends.sklearn.parameters import plain_parameters
from mlopsc.schema.export import MODEL_FILE, PREPROCESS_FILE
from mlopsc.schema.lineage import Framework

FEATURES: Final = "features"  # between preprocessing and model
_TRIES: Final = 20


@dataclass(frozen=True)
class _Graphs:
    preprocess: onnx.ModelProto | None
    model: onnx.ModelProto

    @property
    def all(self) -> list[onnx.ModelProto]:
        return [self.model] if self.preprocess is None else [self.preprocess, self.model]


class Estimator(Original):
    """A fitted estimator or Pipeline."""

    def __init__(
        self, model: Any, example: Any, options: LoadOptions, written_by: str = ""
    ) -> None:
        """Take a fitted model.

        Args:
            model: An estimator, a Pipeline or a search over their parameters.
            example: An array or a DataFrame as for ``fit``, or None.
            options: As for ``load``.
            written_by: What wrote the file it comes from.
        """
        self._model = split.unwrap(model)
        self._answers = answers.answers_of(self._model, options.signature)
        whole = not options.split or split.divide(self._model)[0] is None
        # One graph has one name for one value; in two, a column may be called like an output.
        outputs = [answer.name for answer in self._answers] if whole else []
        self._inputs = find_inputs(self._model, example, outputs)
        self._scale: float | None = None
        self._last: tuple[Mapping[str, Array], dict[str, Array]] = ({}, {})
        self._drawing = Drawing(self._model, self._inputs, example)
        self.version = versions_of("scikit-learn")
        self.written_by = written_by
        trained = written_by.partition(" + ")[0] if "scikit-learn" in written_by else self.version
        name, _, version = trained.partition(" ")
        self.frameworks = (Framework(name=name, version=version),)
        self.configuration = {
            "estimator": type(model).__name__,
            "parameters": plain_parameters(model),
            "features": [str(column.label) for column in self._inputs.columns],
        }

    def export(self, folder: Path, options: LoadOptions) -> Exported:
        """See ``Original.export``."""
        head, rest = split.divide(self._model) if options.split else (None, self._model)
        graphs, notes = self._choose(head, rest)
        paths = {PREPROCESS_FILE: graphs.preprocess, MODEL_FILE: graphs.model}
        for name, proto in paths.items():
            if proto is not None:
                (folder / name).write_bytes(proto.SerializeToString())
        return Exported(
            folder / MODEL_FILE,
            preprocess=None if head is None else folder / PREPROCESS_FILE,
            preprocessing=() if head is None else tuple(split.in_words(head)),
            notes=tuple(notes),
            converter=versions_of("skl2onnx"),
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Original.run``."""
        import joblib

        if inputs is self._last[0]:
            return self._last[1]
        # A sandboxed worker may not start processes, which some estimators do for n_jobs.
        threads = joblib.parallel_config(backend="threading")
        with threads, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            answer = answers.compute(self._model, self._inputs.table(inputs), self._answers)
        self._last = (inputs, answer)
        return answer

    def draw(
        self, rng: np.random.Generator, inputs: Sequence[RawInput], *, last: bool
    ) -> dict[str, Array]:
        """Return inputs like those the model was fitted on, not undecided between classes.

        ``last`` makes no difference, so that what is measured here is what is drawn at import.
        """
        drawn: dict[str, Array] = {}
        for _ in range(_TRIES):
            drawn = self._drawing.draw(rng, inputs)
            try:
                if not answers.undecided(self.run(drawn), self._scale or 0.0):
                    break
            except ValueError:  # scikit-learn refuses NaN unless a model learned what to do with it
                if self._drawing.missing is False:
                    raise
                self._drawing.missing = False
        return drawn

    def _choose(self, head: Any, rest: Any) -> tuple[_Graphs, list[str]]:
        """Return the graphs in float32, or in float64 if float32 is not near enough."""
        narrow = self._convert(head, rest, wide=False)
        error = self._error(narrow)
        if error <= measure.ENOUGH:
            return narrow, []
        try:
            wide = self._convert(head, rest, wide=True)
            better = self._error(wide)
        except ConversionError:
            better = np.inf
        if better > measure.ENOUGH and better > error / 100:
            self._drawing.look_at(narrow.all)
            return narrow, []  # the comparison that follows says what differs
        if better > measure.EXACT:
            self.tolerance = measure.TOLERATED
        return wide, [
            f"inputs and computation are float64, as in scikit-learn: float32 differs by "
            f"{error:.2g} of the largest value"
        ]

    def _error(self, graphs: _Graphs) -> float:
        """Return how far ``graphs`` are from the model, on drawn inputs."""
        self._drawing.look_at(graphs.all)
        chain = measure.Chain(graphs.all)
        rng = np.random.Generator(np.random.PCG64(SEED))
        if self._scale is None:
            self._scale = self._typical(chain.inputs)
        got, expected = [], []
        for _ in range(measure.RUNS):
            sample = self.draw(rng, chain.inputs, last=False)
            got.append(chain.run(sample))
            expected.append(self.run(sample))
        return measure.worst(got, expected)

    def _typical(self, inputs: Sequence[RawInput]) -> float:
        """Return how large scores are, where a decision is about their sign."""
        if self._answers[-1].name != "scores":
            return 0.0
        rng = np.random.Generator(np.random.PCG64(SEED))
        drawn = [self.draw(rng, inputs, last=False) for _ in range(16)]
        return max(float(np.abs(self.run(sample)["scores"]).max()) for sample in drawn)

    def _convert(self, head: Any, rest: Any, *, wide: bool) -> _Graphs:
        types = self._inputs.types(wide)
        preprocess = None
        if head is not None:
            preprocess = convert(head, types)
            cast_output(preprocess, onnx.TensorProto.DOUBLE if wide else onnx.TensorProto.FLOAT)
            name_inputs(preprocess, self._inputs.names())
            between = self._inputs.another(FEATURES)
            rename_values(preprocess.graph, {preprocess.graph.output[0].name: between})
            types = [(between, _float_type(wide, _width(rest)))]
        raw = any(answer.method == "decision_function" for answer in self._answers)
        model = convert(rest, types, raw_scores=raw)
        if len(model.graph.output) < len(self._answers):
            raise ConversionError(
                f"{versions_of('skl2onnx')} gives {len(model.graph.output)} outputs for "
                f"{type(split.final(rest)).__name__}; expected "
                f"{', '.join(answer.name for answer in self._answers)}"
            )
        keep_outputs(model, len(self._answers))
        name_inputs(model, self._inputs.names() if head is None else [between])
        names = [value.name for value in model.graph.output]
        renames = dict(zip(names, (a.name for a in self._answers), strict=True))
        rename_values(model.graph, renames)
        graphs = _Graphs(preprocess, model)
        if raw and len(getattr(self._model, "classes_", ())) == 2:
            self._one_score(graphs)
        return graphs

    def _one_score(self, graphs: _Graphs) -> None:
        """Make scores of two classes one number, as ``decision_function`` gives it."""
        chain = measure.Chain(graphs.all)
        rng = np.random.Generator(np.random.PCG64(SEED))
        name = self._answers[-1].name
        if chain.run(self.draw(rng, chain.inputs, last=False))[name].size == 2:
            second_column(graphs.model, name)


def _float_type(wide: bool, width: int | None) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    return (DoubleTensorType if wide else FloatTensorType)([None, width])


def _width(model: Any) -> int | None:
    for part in (model, *(step for _, step in getattr(model, "steps", ()))):
        width = getattr(part, "n_features_in_", None)
        if width is not None:
            return int(width)
    return None
