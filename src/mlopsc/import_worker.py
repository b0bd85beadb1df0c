"""The part of an import that runs in a worker process: read, normalise, answer, write.

ONNX's checker, shape inference and the reference runtime can crash, hang or exhaust memory on a
hostile model; the pipeline calls these functions through ``tools.run_worker``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlopsc.bundle import Bundle, write_bundle
from mlopsc.errors import OutputError, SourceError
from mlopsc.importer import (
    ImportOptions,
    external_locations,
    import_bundle,
    load_onnx,
    operators_of,
)
from mlopsc.resident import little_resident
from mlopsc.schema.bundle import STAGES


def import_file(
    *,
    source: str,
    options: Mapping[str, Any],
    output: str,
    shown: str,
    exported: str | None = None,
) -> None:
    """Import ``source`` and write the bundle to ``output``, which is called ``shown`` in messages.

    With ``exported``, the folder that a frontend has left, ``source`` is the file in it.

    Raises:
        MlopscError: As ``importer.import_bundle``.
        SourceError: The import takes more memory than it may.
        OutputError: The bundle cannot be written.
    """
    try:
        with little_resident():
            write_bundle(_import(source, options, exported), Path(output))
    except OSError as error:
        raise OutputError(
            f"cannot write '{shown}': {error.strerror or error}; expected a writable place",
            hint="check space and permissions of the disk",
        ) from error


def check_file(
    *, source: str, options: Mapping[str, Any], exported: str | None = None
) -> dict[str, Any]:
    """Import ``source`` and return its signature and operators; nothing is written.

    Raises:
        MlopscError: As ``import_file``.
    """
    with little_resident():
        bundle = _import(source, options, exported)
    return {
        "inputs": [str(spec) for spec in bundle.manifest.inputs],
        "outputs": [str(spec) for spec in bundle.manifest.outputs],
        "operators": [asdict(use) for use in operators_of(bundle.stages)],
    }


def find_external(*, source: str | None, options: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return where the graphs say that their external data lies, by stage; nothing is checked.

    Raises:
        SourceError: One cannot be read.
    """
    graphs = {**options, "model": source}
    return {
        stage: external_locations(Path(graphs[stage]))
        for stage in STAGES
        if graphs[stage] is not None
    }


def copy_graph(*, source: str, output: str) -> None:
    """Check an ONNX file, whose digest has to be that of all it computes, and copy it.

    Raises:
        SourceError: It is not valid, or has weights in other files.
    """
    path = Path(source)
    load_onnx(path)
    outside = external_locations(path)
    if outside:
        raise SourceError(
            f"'{source}' has weights in '{outside[0]}'; expected them inside the file, so that its "
            "digest says all that it computes",
            hint="export it again without external data",
        )
    Path(output).write_bytes(path.read_bytes())


def _import(source: str, options: Mapping[str, Any], exported: str | None) -> Bundle:
    folder = Path(exported) if exported is not None else None
    try:
        return import_bundle(Path(source), ImportOptions.from_json(options), folder)
    except MemoryError as error:
        raise SourceError(
            f"importing '{source}' takes more memory than a model of its size may need",
            hint="bind its dimensions to smaller sizes with --bind",
        ) from error
