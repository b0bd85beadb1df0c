"""Runs imports in worker processes, or takes their results from the cache.

What is no ONNX file is first exported to some by its frontend, in a worker of its own.

Ensures: what comes from the cache is what the import would give, byte for byte.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlopsc.cache import Cache
from mlopsc.errors import ConversionError, MlopscError, SourceError
from mlopsc.frontends import ONNX, Found, frontend, recognise, require_modules, wrap
from mlopsc.frontends.onnx import onnx_file
from mlopsc.schema.common import digest_bytes, digest_file
from mlopsc.schema.export import MODEL_FILE, POSTPROCESS_FILE, PREPROCESS_FILE
from mlopsc.schema.import_options import FILE_OPTIONS, ImportOptions
from mlopsc.snapshot import Snapshot, take_snapshot
from mlopsc.tools import run_worker

# What a model may need is in proportion to its size, beside the libraries and the activations.
_MEMORY_BASE = 8 << 30
_MEMORY_PER_BYTE = 8


@dataclass(frozen=True)
class Ready:
    """ONNX files that can be imported.

    Attributes:
        source: The model.
        options: How to import it, with the graphs around it.
        exported: The folder that a frontend has filled, or None if the source is an ONNX file.
    """

    source: Path
    options: ImportOptions
    exported: Path | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What workers are told of ``exported``."""
        return {"exported": None if self.exported is None else str(self.exported)}


def import_to(
    source: Path,
    output: Path,
    options: ImportOptions,
    *,
    shown: Path,
    timeout: float,
    cache: Cache,
    taken: Callable[[str], None] = lambda what: None,
) -> bool:
    """Write the bundle of ``source`` to ``output``.

    Args:
        source: A model that a frontend recognises.
        output: A path that is free.
        options: How to import.
        shown: What ``output`` is called in messages.
        timeout: Seconds until the import is stopped.
        cache: Where the bundle may be already, and is kept.
        taken: Told what a source that is no ONNX was taken for.

    Returns:
        Whether it came from the cache.

    Raises:
        MlopscError: See ``mlopsc.errors``.
    """
    found = recognise(source)
    if found.framework == ONNX:
        source = onnx_file(source)
    else:
        taken(found.what)
    snapshot = _snapshot(source, found, options, timeout, cache)
    key = None if snapshot is None else _key(snapshot, source, options)
    if key is not None and cache.fetch(key, output):
        return True
    with export(source, found, options, timeout) as ready:
        import_ready(ready, output, shown=shown, timeout=timeout)
    if key is not None and snapshot is not None and snapshot.holds():
        cache.store(key, output)
    return False


def import_ready(ready: Ready, output: Path, *, shown: Path, timeout: float) -> None:
    """Write the bundle of ONNX files to ``output``, which is called ``shown`` in messages.

    Raises:
        MlopscError: See ``mlopsc.errors``.
    """
    names = {"output": str(output.resolve()), "shown": str(shown)}
    run_import("import_file", ready.source, ready.options, timeout, **names, **ready.arguments)


@contextmanager
def export(source: Path, found: Found, options: ImportOptions, timeout: float) -> Iterator[Ready]:
    """Yield ONNX files of ``source``, for the time of the block.

    Raises:
        MlopscError: See ``mlopsc.errors``.
    """
    if found.framework == ONNX:
        yield Ready(source, options)
        return
    kind = frontend(found.framework)
    require_modules(kind.MODULES, kind.TITLE, kind.EXTRA)
    with tempfile.TemporaryDirectory(prefix="mlopsc-export-") as name:
        folder = Path(name)
        run_worker(
            "mlopsc.frontend_worker:export_model",
            {
                "source": str(source.resolve()),
                "framework": found.framework,
                "what": found.what,
                "digest": _digest(source),
                "folder": name,
                "options": options.to_json(),
            },
            crash=ConversionError,
            label=f"the export of '{source}' with {kind.TITLE}",
            timeout=timeout,
            memory=_memory_limit(source, options),
            sandboxed=True,
        )
        yield as_ready(folder, options, options.name or source.stem)


@contextmanager
def export_object(
    model: object, example: object, options: ImportOptions, name: str
) -> Iterator[Ready]:
    """Yield ONNX files of a model that is in memory, for the time of the block.

    Raises:
        MlopscError: See ``mlopsc.errors``.
    """
    from mlopsc.frontend_worker import export_original, load_options

    framework, original = wrap(model, example, load_options(options))
    kind = frontend(framework)
    require_modules(kind.MODULES, kind.TITLE, kind.EXTRA)
    with tempfile.TemporaryDirectory(prefix="mlopsc-export-") as folder:
        what = f"{kind.TITLE} {type(model).__name__} in memory"
        export_original(original, framework, what, None, Path(folder), options)
        yield as_ready(Path(folder), options, options.name or name)


def as_ready(folder: Path, options: ImportOptions, name: str) -> Ready:
    """Return what a frontend has left in ``folder`` for a model called ``name``."""

    def graph(file: str, given: Path | None) -> Path | None:
        return folder / file if (folder / file).is_file() else given

    ready = replace(
        options,
        name=name,
        preprocess=graph(PREPROCESS_FILE, options.preprocess),
        postprocess=graph(POSTPROCESS_FILE, options.postprocess),
    )
    return Ready(folder / MODEL_FILE, ready, folder)


def run_import(
    function: str, source: Path | None, options: ImportOptions, timeout: float, **arguments: Any
) -> Any:
    """Call a function of ``import_worker`` in a worker process and return what it returns.

    Raises:
        MlopscError: See ``mlopsc.errors``.
    """
    path = None if source is None else str(source)
    return run_worker(
        f"mlopsc.import_worker:{function}",
        {"source": path, "options": options.to_json(), **arguments},
        crash=SourceError,
        label=f"the import of '{source}'",
        timeout=timeout,
        memory=_memory_limit(source, options),
        sandboxed=True,
    )


def _memory_limit(source: Path | None, options: ImportOptions) -> int:
    """Return how many bytes of memory of its own an import may take; mapped files do not count."""
    size = 0
    for path in _files(source, options).values():
        with suppress(OSError, ValueError):  # the import says what is wrong with it
            size += path.stat().st_size
    return _MEMORY_BASE + _MEMORY_PER_BYTE * size


def _files(source: Path | None, options: ImportOptions) -> dict[str, Path]:
    """Return the files that are given: graphs by their stage, those of a folder by their names."""
    given = {name: getattr(options, name) for name in FILE_OPTIONS}
    model = {} if source is None else {"model": source}
    if source is not None and source.is_dir():
        inside = sorted(path for path in source.rglob("*") if path.is_file())
        model = {f"model {path.relative_to(source).as_posix()}": path for path in inside}
    return {**model, **{name: path for name, path in given.items() if path is not None}}


def _digest(source: Path) -> str:
    """Return the digest of a file, or of names and digests of all files of a folder."""
    if not source.is_dir():
        return digest_file(source)
    files = _files(source, ImportOptions())
    return digest_bytes(*(f"{n} {digest_file(p)}\n".encode() for n, p in files.items()))


def _key(snapshot: Snapshot, source: Path, options: ImportOptions) -> str:
    others = {name: value for name, value in vars(options).items() if name not in FILE_OPTIONS}
    return snapshot.key("bundle", **{**others, "name": options.name or source.stem})


def _snapshot(
    source: Path, found: Found, options: ImportOptions, timeout: float, cache: Cache
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
                model = source if found.framework == ONNX else None
                locations = run_import("find_external", model, options, timeout)
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
