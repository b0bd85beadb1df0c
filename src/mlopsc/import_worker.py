"""The part of an import that runs in a worker process: read, normalise, answer, write.

ONNX's checker, shape inference and the reference runtime can crash, hang or exhaust memory on a
hostile model; the pipeline calls these functions through ``tools.run_worker``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlopsc.bundle import Bundle, write_bundle
from mlopsc.errors import OutputError, SourceError
from mlopsc.importer import ImportOptions, import_bundle, operators_of

TIMEOUT_S = 1800.0
# What a model may need is in proportion to its size, beside the libraries and the activations.
_MEMORY_BASE = 8 << 30
_MEMORY_PER_BYTE = 8


def memory_limit(source: Path, options: ImportOptions) -> int:
    """Return how many bytes of memory of its own an import may take; mapped files do not count."""
    size = 0
    for path in (source, options.preprocess, options.postprocess, options.vectors):
        with suppress(OSError, ValueError):  # the import says what is wrong with it
            size += path.stat().st_size if path is not None else 0
    return _MEMORY_BASE + _MEMORY_PER_BYTE * size


def import_file(*, source: str, options: Mapping[str, Any], output: str, shown: str) -> None:
    """Import ``source`` and write the bundle to ``output``, which is called ``shown`` in messages.

    Raises:
        MlopscError: As ``importer.import_bundle``.
        SourceError: The import takes more memory than it may.
        OutputError: The bundle cannot be written.
    """
    bundle = _import(source, options)
    try:
        write_bundle(bundle, Path(output))
    except OSError as error:
        raise OutputError(
            f"cannot write '{shown}': {error.strerror or error}; expected a writable place",
            hint="check space and permissions of the disk",
        ) from error


def check_file(*, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Import ``source`` and return its signature and operators; nothing is written.

    Raises:
        MlopscError: As ``import_file``.
    """
    bundle = _import(source, options)
    return {
        "inputs": [str(spec) for spec in bundle.manifest.inputs],
        "outputs": [str(spec) for spec in bundle.manifest.outputs],
        "operators": [asdict(use) for use in operators_of(bundle.stages)],
    }


def _import(source: str, options: Mapping[str, Any]) -> Bundle:
    paths = {
        name: Path(options[name]) if options[name] is not None else None
        for name in ("preprocess", "postprocess", "vectors")
    }
    try:
        return import_bundle(Path(source), ImportOptions(**{**options, **paths}))
    except MemoryError as error:
        raise SourceError(
            f"importing '{source}' takes more memory than a model of its size may need",
            hint="bind its dimensions to smaller sizes with --bind",
        ) from error
