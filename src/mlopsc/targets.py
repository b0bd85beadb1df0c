"""Targets are data: finds, reads, completes and validates target files.

Takes a name (a file under ``targets/``) or the path of a TOML file; gives a ``Target``. A file may
extend one other target: tables merge, values replace. ``host`` is completed by detection.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlopsc.errors import TargetDefinitionError, UnknownTargetError
from mlopsc.host import detect_host
from mlopsc.resources import targets_dir
from mlopsc.schema.target import Target


def target_names() -> list[str]:
    """Return the names of all bundled targets, sorted."""
    return sorted(path.stem for path in targets_dir().glob("*/*.toml"))


def load_target(name: str) -> Target:
    """Return the target called ``name``, or defined by the TOML file at that path.

    Raises:
        UnknownTargetError: No such target; the message names the nearest ones.
        TargetDefinitionError: The file is not a valid target.
    """
    path = _find(name)
    raw = _resolve(path, seen=())
    try:
        target = Target.model_validate(raw)
    except ValidationError as error:
        raise TargetDefinitionError(
            f"target file '{path.name}' is not valid: {_first_problem(error)}",
            hint="docs/targets.md describes every field; 'mlopsc targets show host' prints one",
        ) from error
    if target.name != path.stem:
        raise TargetDefinitionError(
            f"target file '{path.name}' is named '{target.name}' inside; the two must be equal"
        )
    return target


def _find(name: str) -> Path:
    if name.endswith(".toml"):
        path = Path(name)
        if path.is_file():
            return path
        raise UnknownTargetError(f"target file '{name}' does not exist")
    matches = sorted(targets_dir().glob(f"*/{name}.toml")) if _is_plain(name) else []
    if matches:
        return matches[0]
    names = target_names()
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
    raise UnknownTargetError(
        f"unknown target '{name}'; the nearest are: {', '.join(near)}",
        hint="'mlopsc targets' lists all; a path ending in .toml names your own",
    )


def _is_plain(name: str) -> bool:
    return bool(name) and all(c.isalnum() or c in ".-_" for c in name)


def _resolve(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise TargetDefinitionError(f"target file '{path.name}' extends itself")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise TargetDefinitionError(f"target file '{path.name}' cannot be read: {error}") from error
    if raw.pop("detect", False):
        raw = _merge(raw, detect_host())
    base = raw.pop("extends", None)
    if base is None:
        return raw
    name = str(path.parent / base) if str(base).endswith(".toml") else str(base)
    return _merge(_resolve(_find(name), (*seen, path)), raw)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "top level"
    return f"{where}: {first['msg']} (value: {first.get('input')!r:.80})"
