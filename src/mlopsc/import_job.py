"""Runs imports in worker processes, or takes their results from the cache.

Ensures: what comes from the cache is what the import would give, byte for byte.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlopsc.cache import Cache
from mlopsc.errors import MlopscError, SourceError
from mlopsc.schema.import_options import FILE_OPTIONS, ImportOptions
from mlopsc.snapshot import Snapshot, take_snapshot
from mlopsc.tools import run_worker

# What a model may need is in proportion to its size, beside the libraries and the activations.
_MEMORY_BASE = 8 << 30
_MEMORY_PER_BYTE = 8


def import_to(
    source: Path, output: Path, options: ImportOptions, *, shown: Path, timeout: float, cache: Cache
) -> bool:
    """Write the bundle of ``source`` to ``output``.

    Args:
        source: ONNX file.
        output: A path that is free.
        options: How to import.
        shown: What ``output`` is called in messages.
        timeout: Seconds until the import is stopped.
        cache: Where the bundle may be already, and is kept.

    Returns:
        Whether it came from the cache.

    Raises:
        MlopscError: See ``mlopsc.errors``.
    """
    snapshot = _snapshot(source, options, timeout, cache)
    key = None if snapshot is None else _key(snapshot, source, options)
    if key is not None and cache.fetch(key, output):
        return True
    names = {"output": str(output.resolve()), "shown": str(shown)}
    run_import("import_file", source, options, timeout, **names)
    if key is not None and snapshot is not None and snapshot.holds():
        cache.store(key, output)
    return False


def run_import(
    function: str, source: Path, options: ImportOptions, timeout: float, **arguments: str
) -> Any:
    """Call a function of ``import_worker`` in a worker process and return what it returns.

    Raises:
        MlopscError: See ``mlopsc.errors``.
    """
    return run_worker(
        f"mlopsc.import_worker:{function}",
        {
            "source": str(source),
            "options": {
                name: str(value) if isinstance(value, Path) else value
                for name, value in vars(options).items()
            },
            **arguments,
        },
        crash=SourceError,
        label=f"the import of '{source}'",
        timeout=timeout,
        memory=_memory_limit(source, options),
    )


def _memory_limit(source: Path, options: ImportOptions) -> int:
    """Return how many bytes of memory of its own an import may take; mapped files do not count."""
    size = 0
    for path in _files(source, options).values():
        with suppress(OSError, ValueError):  # the import says what is wrong with it
            size += path.stat().st_size
    return _MEMORY_BASE + _MEMORY_PER_BYTE * size


def _files(source: Path, options: ImportOptions) -> dict[str, Path]:
    """Return the files that are given; graphs by their stage."""
    given = {name: getattr(options, name) for name in FILE_OPTIONS}
    return {"model": source, **{name: path for name, path in given.items() if path is not None}}


def _key(snapshot: Snapshot, source: Path, options: ImportOptions) -> str:
    others = {name: value for name, value in vars(options).items() if name not in FILE_OPTIONS}
    return snapshot.key("bundle", **{**others, "name": options.name or source.stem})


def _snapshot(
    source: Path, options: ImportOptions, timeout: float, cache: Cache
) -> Snapshot | None:
    """Return all that the import depends on, external data included; None if that is in doubt."""
    files = _files(source, options)
    snapshot = take_snapshot(files, limit=cache.limit)
    if snapshot is None:
        return None
    # Which files hold external data depends on the graphs alone, so the cache may know it.
    key = snapshot.key("locations")
    with tempfile.TemporaryDirectory(prefix="mlopsc-cache-") as name:
        path = Path(name) / "locations.json"
        if not cache.fetch(key, path):
            try:
                locations = run_import("find_external", source, options, timeout)
            except MlopscError:  # the import meets the same, and reports it
                return None
            path.write_text(json.dumps(locations), encoding="utf-8")
            if snapshot.holds():
                cache.store(key, path)
        data = {
            f"{stage} {location}": files[stage].parent / location
            for stage, found in json.loads(path.read_bytes()).items()
            for location in found
        }
    return take_snapshot({**files, **data}, limit=cache.limit) if data else snapshot
