"""Reads skops files: a zip archive with a JSON schema and arrays, no code."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

from mlopsc.errors import SourceError, UnsafeSourceError
from mlopsc.frontends.sklearn.trusted import TRUSTED, check_indices

_MAX_UNPACKED: Final = 4 << 30
_FUNCTIONS: Final = {"FunctionNode", "MethodNode", "PartialNode", "OperatorFuncNode"}


def read(path: Path, trust: tuple[str, ...]) -> tuple[Any, str]:
    """Return the model and what wrote it.

    Args:
        path: A skops file.
        trust: Types that the user vouches for, by full name.

    Raises:
        SourceError: It is damaged.
        UnsafeSourceError: It holds types that are not trusted; nothing of it was loaded then.
    """
    from skops import io

    try:
        schema = _schema(path)
        unknown = sorted(set(io.get_untrusted_types(file=path)) - set(TRUSTED) - set(trust))
        if unknown:
            raise _unsafe(path, unknown, schema)
        used = set(io.get_untrusted_types(file=path))
        model = io.load(path, trusted=sorted(used))
        check_indices(model)
    except (SourceError, UnsafeSourceError, MemoryError):
        raise
    except Exception as error:  # skops raises whatever a damaged schema leads to
        text = " ".join(str(error).split())
        raise SourceError(
            f"'{path}' cannot be read as a skops file: {type(error).__name__}: {text[:300]}; "
            "expected what skops.io.dump has written",
            hint="save the model again with skops.io.dump, or update skops and scikit-learn",
        ) from error
    if not hasattr(model, "fit"):
        raise SourceError(
            f"'{path}' holds a {type(model).__name__}; expected an estimator of scikit-learn",
            hint="dump the estimator itself: skops.io.dump(model, path)",
        )
    return model, _written_by(schema)


def _schema(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _MAX_UNPACKED:
            raise SourceError(
                f"'{path}' unpacks to {unpacked} bytes; expected at most {_MAX_UNPACKED}",
                hint="check where the file comes from",
            )
        schema = json.loads(archive.read("schema.json"))
    if not isinstance(schema, dict):
        raise SourceError(f"'{path}': schema.json is no JSON object", hint="save the model again")
    return schema


def _unsafe(path: Path, unknown: list[str], schema: dict[str, Any]) -> UnsafeSourceError:
    """Return the refusal, which names functions apart: no ``--trust`` makes them compile."""
    functions = sorted(set(unknown) & set(_functions(schema)))
    types = [name for name in unknown if name not in functions]
    text = f"'{path}' holds types that nobody vouches for: {', '.join(types)}" if types else ""
    if functions:
        text = f"{text}; and functions" if text else f"'{path}' holds functions"
        text += f", which are code and cannot be compiled: {', '.join(functions)}"
        hint = (
            "leave the step with the function out, or write it as preprocessing "
            "(docs/preprocessing.md)"
        )
    else:
        hint = f"if you trust them: {' '.join(f'--trust {name}' for name in types)}"
    return UnsafeSourceError(text, hint=hint)


def _functions(schema: dict[str, Any]) -> list[str]:
    """Return the full names of functions that the schema names."""
    found: list[str] = []
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if node.get("__loader__") in _FUNCTIONS:
                found.append(f"{node.get('__module__')}.{node.get('__class__')}")
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found


def _written_by(schema: dict[str, Any]) -> str:
    """Return what wrote the file: estimators keep scikit-learn's version in their state."""
    version = schema.get("_skops_version")
    skops = f"skops {version}" if isinstance(version, str) else "skops"
    state = schema.get("content")
    while isinstance(state, dict):
        entry = state.get("_sklearn_version")
        if isinstance(entry, dict) and isinstance(entry.get("content"), str):
            return f"scikit-learn {entry['content'].strip(chr(34))} + {skops}"
        state = state.get("content")
    return skops
