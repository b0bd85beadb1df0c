"""Reads a steps file: strictly, and with errors that name the step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from mlopsc.errors import SourceError
from mlopsc.schema.steps import STEP_NAMES, Steps
from mlopsc.yaml_file import parse_yaml

HINT: Final = "docs/preprocessing.md describes every step and has examples"
_MAX_BYTES: Final = 1 << 20


def read_steps(path: Path) -> Steps:
    """Return the steps in a file, label files read.

    Raises:
        SourceError: It cannot be read, or is not valid.
    """
    raw = _parse(path, _text(path, path))
    if not isinstance(raw, dict):
        raise SourceError(
            f"'{path}' holds no mapping; expected inputs, steps and output", hint=HINT
        )
    _read_labels(path, raw)
    try:
        text = json.dumps(raw)
    except (TypeError, ValueError, RecursionError) as error:
        raise SourceError(
            f"'{path}' holds something that JSON has no word for: {error}", hint=HINT
        ) from error
    try:
        return Steps.model_validate_json(text)
    except ValidationError as error:
        raise SourceError(f"'{path}': {_first_problem(error, raw)}", hint=HINT) from error


def _text(path: Path, shown: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise SourceError(
                f"'{shown}' has {path.stat().st_size} bytes; expected at most {_MAX_BYTES}"
            )
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"cannot read '{shown}': {reason}; expected a text file", hint="check the path"
        ) from error


def _parse(path: Path, text: str) -> Any:
    try:
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_unique)
        return parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
        text = " ".join(str(error).replace(f'in "{"<unicode string>"}", ', "at ").split())
        raise SourceError(f"'{path}' is not valid {kind}: {text[:300]}", hint=HINT) from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"'{key}' is there twice")
        found[key] = value
    return found


def _read_labels(path: Path, raw: dict[str, Any]) -> None:
    """Put the lines of a file in the place of its name, wherever labels are one."""
    steps = raw.get("steps")
    for number, step in enumerate(steps if isinstance(steps, list) else [], 1):
        for name, parameters in step.items() if isinstance(step, dict) else ():
            labels = parameters.get("labels") if isinstance(parameters, dict) else None
            if isinstance(labels, str) and name in STEP_NAMES:
                parameters["labels"] = _lines(path, labels, f"step {number} ({name})")


def _lines(path: Path, name: str, step: str) -> list[str]:
    folder = path.parent.resolve()
    try:
        file = (folder / name).resolve()
        inside = folder in file.parents and file.is_file()
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise SourceError(
            f"'{path}', {step}: labels is '{name}'; expected a list of strings, or a text file in "
            "the folder of the steps file, one label a line",
            hint=HINT,
        )
    return _text(file, Path(name)).splitlines()


def _first_problem(error: ValidationError, raw: dict[str, Any]) -> str:
    """Return the first problem, with the step that has it."""
    found = error.errors(include_url=False, include_context=False)[0]
    place = list(found["loc"])
    words = [str(part) for part in place if not _is_branch(part)]
    what = "".join(c if c.isprintable() else repr(c)[1:-1] for c in ".".join(words)) or "the file"
    if place[:1] == ["steps"] and len(place) > 1:
        number = int(place[1])
        step = raw["steps"][number]
        names = [n for n in step if n not in ("input", "output")] if isinstance(step, dict) else []
        name = f" ({names[0]})" if len(names) == 1 else ""
        rest = [word for word in words[2:] if word not in names]
        what = f"step {number + 1}{name}" + (f", {'.'.join(rest)}" if rest else "")
    value = "" if found["type"] in ("missing", "value_error") else f", not {_shown(found['input'])}"
    message = found["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = "expected " if found["msg"].startswith("Input should be ") else ""
    return f"{what}: {expected}{message}{value}"


def _is_branch(part: int | str) -> bool:
    """Whether a part of a place names the alternative of a type, and nothing in the file."""
    return isinstance(part, str) and (
        part in ("int", "float", "str", "bool") or "[" in part or part.startswith("constrained-")
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
