"""Turns a source into an ONNX file; runs in a worker process.

Ensures: the same source gives the same bytes, however it is laid out and whatever version of mlopsc
reads it, as long as the steps mean the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import onnx

from mlopsc.errors import SourceError
from mlopsc.schema.steps import SCHEMA_VERSION, Step, Steps
from mlopsc.steps import arrays, audio, boxes, image, scores, script_parts
from mlopsc.steps.graph import Graph
from mlopsc.steps.read import HINT, read_steps
from mlopsc.steps.script import script_to_onnx
from mlopsc.steps.value import Refusal, Value

PRODUCER: Final = "mlopsc steps"
METADATA_KEY: Final = "mlopsc.steps"  # of the model: the steps, as canonical JSON

Make = Callable[[Graph, Any, Any], Value | dict[str, Value]]
# How each step is written. Steps of several inputs get them by name.
_MAKE: Final[dict[str, Make]] = {
    "resize": image.resize,
    "crop": image.crop,
    "pad": image.pad,
    "colour": image.colour,
    "slice": arrays.cut,
    "layout": arrays.change_layout,
    "transpose": arrays.transpose,
    "reshape": arrays.reshape,
    "cast": arrays.cast,
    "clip": arrays.clip,
    "scale": arrays.scale,
    "normalise": arrays.normalise,
    "standardise": arrays.standardise,
    "one_hot": arrays.one_hot,
    "quantise": arrays.quantise,
    "dequantise": arrays.dequantise,
    "frame": audio.frame,
    "log_mel": audio.log_mel,
    "mfcc": audio.mfcc,
    "softmax": scores.softmax,
    "sigmoid": scores.sigmoid,
    "argmax": scores.argmax,
    "top_k": scores.top_k,
    "threshold": scores.threshold,
    "nms": boxes.nms,
}
_PROBLEMS: Final = (Refusal, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
# The names of the inputs of steps that have several.
_SEVERAL: Final[dict[str, tuple[str, ...]]] = {"nms": ("boxes", "scores")}


def to_onnx(source: str) -> bytes:
    """Return the ONNX file of a source.

    Raises:
        SourceError: It cannot be read, is not valid, or a step cannot be done.
        MissingToolError: It is a Python file and onnxscript is not installed.
    """
    parts = script_parts(Path(source))
    if parts is not None:
        return script_to_onnx(*parts)
    return steps_to_onnx(read_steps(Path(source)), source)


def convert_file(source: str, output: str) -> None:
    """Write the ONNX file of ``source`` to ``output``.

    Raises:
        SourceError, MissingToolError: As ``to_onnx``, or it takes more memory than it may.
    """
    try:
        Path(output).write_bytes(to_onnx(source))
    except MemoryError as error:
        raise SourceError(
            f"'{source}' takes more memory than a conversion may need; expected smaller sizes",
            hint=HINT,
        ) from error


def steps_to_onnx(steps: Steps, source: str) -> bytes:
    """Return the ONNX file of ``steps``, which are called ``source`` in messages.

    Raises:
        SourceError: A step cannot be done.
    """
    graph = Graph()
    try:
        known = {
            name: graph.input(name, given.dtype, given.shape, given.layout)
            for name, given in steps.inputs.items()
        }
    except Refusal as error:
        raise SourceError(f"'{source}', inputs: {error}", hint=error.hint or HINT) from error
    current = next(iter(known.values())) if len(known) == 1 else None
    for number, step in enumerate(steps.steps, 1):
        graph.prefix = f"step{number}/{step.name}"
        try:
            given = _inputs(step, known, current)
            made = _MAKE[step.name](graph, given, step.parameters)
            current = _name_outputs(step, made, known)
        except _PROBLEMS as error:
            hint = getattr(error, "hint", "") or HINT
            text = " ".join(str(error).split())
            raise SourceError(
                f"'{source}', step {number} ({step.name}): {text}", hint=hint
            ) from error
    canonical = steps.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = json.dumps(canonical, ensure_ascii=False, separators=(",", ":"))
    try:
        outputs = _outputs(steps, known, current)
        return graph.finish(outputs, {METADATA_KEY: text}, PRODUCER, str(SCHEMA_VERSION))
    except _PROBLEMS as error:
        problem = " ".join(str(error).split())
        raise SourceError(f"'{source}': {problem}", hint=HINT) from error


def _inputs(step: Step, known: Mapping[str, Value], current: Value | None) -> Any:
    """Return the value that a step takes, or its values by their names.

    Raises:
        Refusal: A name is unknown, or missing.
    """
    wanted = _SEVERAL.get(step.name)
    if wanted is not None:
        if not isinstance(step.input, dict) or set(step.input) != set(wanted):
            raise Refusal(f"input is {step.input}; expected a value for each of "
                          f"{', '.join(wanted)}")  # fmt: skip
        return {name: _known(step.input[name], known) for name in wanted}
    if isinstance(step.input, dict):
        raise Refusal(f"input is {step.input}; expected the name of one value")
    if step.input is not None:
        return _known(step.input, known)
    if current is None:
        raise Refusal(
            f"there are several inputs: {', '.join(known)}", "say which one it takes: 'input: NAME'"
        )
    return current


def _known(name: str, known: Mapping[str, Value]) -> Value:
    if name not in known:
        raise Refusal(f"there is no value '{name}' yet; there are: {', '.join(known)}")
    return known[name]


def _name_outputs(step: Step, made: Value | dict[str, Value], known: dict[str, Value]) -> Value:
    """Note what a step gives under the names it says, and return its first value.

    Raises:
        Refusal: A name is taken, or is that of no result.
    """
    results = made if isinstance(made, dict) else {"": made}
    if isinstance(made, dict) and isinstance(step.output, str):
        raise Refusal(f"output is '{step.output}'; expected a name for some of {', '.join(made)}")
    if isinstance(step.output, dict) and not isinstance(made, dict):
        raise Refusal(f"output is {step.output}; expected one name")
    names = step.output if isinstance(step.output, dict) else {"": step.output}
    for result, name in names.items():
        if name is None:
            continue
        if result not in results:
            raise Refusal(f"output is {names}; expected a name for some of {', '.join(results)}")
        if name in known:
            raise Refusal(f"output is '{name}', which is there already; expected a new name")
        known[name] = results[result]
    return next(iter(results.values()))


def _outputs(
    steps: Steps, known: Mapping[str, Value], current: Value | None
) -> list[tuple[str, Value]]:
    """Return the outputs of the graph.

    Raises:
        Refusal: One is unknown, or is an input.
    """
    names = [steps.output] if isinstance(steps.output, str) else list(steps.output)
    if len(set(names)) != len(names):
        raise Refusal(f"output is {names}; expected each name once")
    for name in names:
        if name in steps.inputs:
            raise Refusal(f"output is '{name}', which is the name of an input; expected another")
    if isinstance(steps.output, tuple):
        for name in names:
            if name not in known:
                raise Refusal(f"output is {names}; no step gives '{name}'")
        return [(name, known[name]) for name in names]
    if current is None:
        raise Refusal(f"output is '{names[0]}', and there is no step; expected one")
    if known.get(names[0], current) is not current:
        raise Refusal(f"output is '{names[0]}', which is not what the last step gives; expected a "
                      "list of names, to choose values of other steps")  # fmt: skip
    return [(names[0], current)]
