"""The part of an import that runs in a worker process: read, normalise, answer, write.

ONNX's checker, shape inference and the reference runtime can crash, hang or exhaust memory on a
hostile model; the pipeline calls ``import_file`` through ``tools.run_worker``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlopsc.bundle import write_bundle
from mlopsc.errors import OutputError, SourceError
from mlopsc.importer import ImportOptions, import_bundle

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
    paths = {
        name: Path(options[name]) if options[name] is not None else None
        for name in ("preprocess", "postprocess", "vectors")
    }
    try:
        bundle = import_bundle(Path(source), ImportOptions(**{**options, **paths}))
    except MemoryError as error:
        raise SourceError(
            f"importing '{source}' takes more memory than a model of its size may need",
            hint="bind its dimensions to smaller sizes with --bind",
        ) from error
    try:
        write_bundle(bundle, Path(output))
    except OSError as error:
        raise OutputError(
            f"cannot write '{shown}': {error.strerror or error}; expected a writable place",
            hint="check space and permissions of the disk",
        ) from error
