"""The Python interface; re-exported lazily by ``mlopsc`` so that importing it costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlopsc import data, pipeline
from mlopsc.bundle import Bundle
from mlopsc.loader import Model, load
from mlopsc.preprocessing import Preprocess, load_preprocess
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.conformance import ConformanceReport
from mlopsc.schema.fingerprint import Fingerprint
from mlopsc.schema.import_options import ImportOptions
from mlopsc.schema.package import Package
from mlopsc.schema.target import Accuracy, Generator, Schedule
from mlopsc.trust.policy import TrustOptions

__all__ = [
    "Bundle",
    "Fingerprint",
    "Model",
    "Package",
    "Preprocess",
    "build",
    "conform",
    "fingerprint",
    "import_model",
    "load",
    "load_preprocess",
]


def import_model(
    source: str | Path,
    output: str | Path,
    *,
    preprocess: str | Path | None = None,
    postprocess: str | Path | None = None,
    vectors: str | Path | None = None,
    bind: Mapping[str, int] | None = None,
    name: str | None = None,
    version: str = "0",
    trained_with: str | None = None,
    lineage: str | Path | None = None,
    find_lineage: bool = True,
    force: bool = False,
    cache: bool = True,
) -> Bundle:
    """Import an ONNX model and write a bundle.

    Args:
        source: ONNX file.
        output: Where to write, ``NAME.mlb``.
        preprocess: ONNX file, steps (``.yaml``, ``.json``) or a Python file written with onnxscript
            (``file.py``, ``file.py:function``) whose outputs are the model's inputs, by name.
        postprocess: The same, whose inputs are the model's outputs, by name.
        vectors: ``.npz`` with one array per raw input (first axis counts samples) and optionally
            ``label``; synthesised if not given.
        bind: Sizes of symbolic dimensions, the first axis of an input is 1 by default; lengths of
            inputs that are sequences.
        name: Name of the model; the file's name by default.
        version: Your version of the model.
        trained_with: Digest of the preprocessing that trained the model.
        lineage: How the model came to be; ``lineage.yaml`` beside the model by default.
        find_lineage: Whether that is looked for.
        force: Replace ``output``.
        cache: Whether the bundle may come from the cache if nothing has changed, and is kept there.

    Returns:
        The bundle, in memory.

    Raises:
        mlopsc.errors.MlopscError: The import failed; nothing was written.
    """
    options = ImportOptions(
        preprocess=_path(preprocess),
        postprocess=_path(postprocess),
        vectors=_path(vectors),
        bind=dict(bind or {}),
        name=name,
        version=version,
        trained_with=trained_with,
        lineage=_path(lineage),
        find_lineage=find_lineage,
    )
    return pipeline.import_model(Path(source), Path(output), options, force=force, cache=cache)


def build(
    source: str | Path,
    targets: str | Sequence[str],
    output: str | Path,
    *,
    generator: Generator | None = None,
    schedule: Schedule = "tiled",
    accuracy: Accuracy = "fast",
    source_code: bool = False,
    keys: Sequence[str | Path] = (),
    unchecked: bool = False,
    force: bool = False,
    cache: bool = True,
) -> dict[str, Package]:
    """Build one package per target, as ``output/<target>``; all appear or none.

    Args:
        source: A bundle, or an ONNX file.
        targets: Names of targets, or paths of target files.
        output: Folder for the packages.
        generator: ``llvm`` or ``c``; each target's own by default.
        schedule: ``none`` leaves loops unscheduled.
        accuracy: ``fast`` allows algorithms whose error against float64 stays below 1e-5 of a
            layer's largest value, for finite inputs; ``strict`` allows none that trades accuracy
            for speed.
        source_code: Whether the generated C is delivered too.
        keys: Public keys; one of them must have signed the bundle.
        unchecked: Do not look at the bundle's signature; this is recorded.
        force: Replace packages that exist.
        cache: Whether what has not changed may come from the cache, and is kept there.

    Returns:
        The description of each package, by target.

    Raises:
        mlopsc.errors.MlopscError: The build failed; no package was written.
    """
    names = [targets] if isinstance(targets, str) else list(targets)
    return pipeline.build(
        Path(source),
        names,
        Path(output),
        how=BuildOptions(
            generator=generator, schedule=schedule, accuracy=accuracy, source_code=source_code
        ),
        trust=TrustOptions(keys=tuple(Path(key) for key in keys), unchecked=unchecked),
        force=force,
        cache=cache,
    )


def conform(
    package: str | Path, *, bundle: str | Path | None = None, runner: str | None = None
) -> ConformanceReport:
    """Run a package on its vectors, compare with the reference and write ``conformance.json``.

    Args:
        package: Folder of the package.
        bundle: If given, the reference runs the bundle's graph now.
        runner: Which runner; the target's preferred one by default.

    Raises:
        mlopsc.errors.MissingToolError: No runner is there.
        mlopsc.errors.BrokenPackageError: The package is damaged or fails.
    """
    return pipeline.conform(Path(package), bundle=_path(bundle), runner=runner)


def fingerprint(path: str | Path, *, cache: bool = True) -> Fingerprint:
    """Return the version of a data set: one digest, and the digest of each file.

    Args:
        path: A folder or a file.
        cache: Whether files that have not changed since the last time need not be read again.

    Raises:
        mlopsc.errors.DataError: It cannot be read, changes meanwhile, or holds links or special
            files.
    """
    return data.read_contents(Path(path), cache=cache).fingerprint()


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)
