"""The Python interface; re-exported lazily by ``mlopsc`` so that importing it costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from mlopsc import data, fitting, pipeline, quantizing, signing, tracing
from mlopsc.bundle import Bundle
from mlopsc.loader import Model, load
from mlopsc.preprocessing import Preprocess, load_preprocess
from mlopsc.schema.build_options import BuildOptions, Layout
from mlopsc.schema.conformance import ConformanceReport
from mlopsc.schema.fingerprint import Fingerprint
from mlopsc.schema.fit import FitReport
from mlopsc.schema.import_options import ImportOptions
from mlopsc.schema.package import Package
from mlopsc.schema.quantize import QuantizeOptions, QuantizeReport
from mlopsc.schema.target import Accuracy, Generator, Schedule
from mlopsc.tracing import Node
from mlopsc.trust import policy
from mlopsc.trust.keys import is_encrypted, load_private, password_from_environment
from mlopsc.trust.policy import TrustOptions, Verification

__all__ = [
    "Bundle",
    "Fingerprint",
    "FitReport",
    "Model",
    "Node",
    "Package",
    "Preprocess",
    "QuantizeOptions",
    "QuantizeReport",
    "Verification",
    "build",
    "conform",
    "fingerprint",
    "fit",
    "import_model",
    "load",
    "load_preprocess",
    "quantize",
    "sign",
    "trace",
    "verify",
]


def import_model(
    source: str | Path | object,
    output: str | Path,
    *,
    example: object = None,
    preprocess: str | Path | None = None,
    postprocess: str | Path | None = None,
    vectors: str | Path | None = None,
    bind: Mapping[str, int] | None = None,
    name: str | None = None,
    version: str = "0",
    trained_with: str | None = None,
    lineage: str | Path | None = None,
    find_lineage: bool = True,
    split: bool = True,
    signature: str | None = None,
    trust: Sequence[str] = (),
    accept_divergence: str | None = None,
    force: bool = False,
    cache: bool = True,
) -> Bundle:
    """Import a framework's model and write a bundle.

    Args:
        source: File or folder of any framework in ``docs/frontends.md``; or a model in memory: a
            ``torch.nn.Module``, a Keras model, an estimator, a booster, a JAX function.
        output: Where to write, ``NAME.mlb``.
        example: For a model in memory: inputs that it takes, as its page in ``docs/frontends``
            says; only their types and shapes matter.
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
        split: Whether preprocessing found at the head of the model becomes a stage of its own.
        signature: Which signature of a source that holds several.
        trust: Types, by full name, that a skops file may hold although nobody vouches for them.
        accept_divergence: Why the bundle may compute something else than the original; recorded.
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
        split=split,
        signature=signature,
        trust=tuple(trust),
        accept_divergence=accept_divergence,
    )
    if not isinstance(source, str | Path):
        return pipeline.import_object(source, example, Path(output), options, force=force)
    return pipeline.import_model(Path(source), Path(output), options, force=force, cache=cache)


def quantize(
    source: str | Path,
    output: str | Path,
    *,
    calibration: str | Path | None = None,
    evaluation: str | Path | None = None,
    options: QuantizeOptions | None = None,
    name: str | None = None,
    version: str | None = None,
    keys: Sequence[str | Path] = (),
    unchecked: bool = False,
    force: bool = False,
) -> QuantizeReport:
    """Quantise a float model and write the bundle of the quantised one.

    Args:
        source: A bundle, or a model of any framework.
        output: Where to write, ``NAME.mlb``.
        calibration: File or folder of samples (``.npz``, ``.npy``, images) that give the ranges of
            values; the bundle's vectors by default.
        evaluation: The same, to measure errors and accuracy on (``label`` in an ``.npz``); by
            default the bundle's vectors if they were given, else the calibration samples.
        options: Element types, method, what stays in float; see ``mlopsc.api.QuantizeOptions``.
        name: Name of the quantised model; the float one's by default.
        version: Your version of it; the float one's by default.
        keys: Public keys; one of them must have signed the bundle.
        unchecked: Do not look at the bundle's signature; this is recorded.
        force: Replace ``output``.

    Returns:
        What it cost, by layer, output and class.

    Raises:
        mlopsc.errors.MlopscError: It failed; nothing was written.
    """
    return quantizing.quantize(
        Path(source),
        Path(output),
        options or QuantizeOptions(),
        calibration=_path(calibration),
        evaluation=_path(evaluation),
        imports=ImportOptions(name=name, version=version or "0"),
        trust=TrustOptions(keys=tuple(Path(key) for key in keys), unchecked=unchecked),
        force=force,
    ).report


def build(
    source: str | Path,
    targets: str | Sequence[str],
    output: str | Path,
    *,
    generator: Generator | None = None,
    schedule: Schedule = "tiled",
    accuracy: Accuracy = "fast",
    source_code: bool = False,
    layouts: Sequence[Layout] = (),
    io_in_arena: bool = False,
    patches: int | None = None,
    arena_limit: int | None = None,
    keys: Sequence[str | Path] = (),
    unchecked: bool = False,
    force: bool = False,
    cache: bool = True,
) -> dict[str, Package]:
    """Build one package per target, as ``output/<target>``; all appear or none.

    Args:
        source: A bundle, or a model of any framework.
        targets: Names of targets, or paths of target files.
        output: Folder for the packages.
        generator: ``llvm`` or ``c``; each target's own by default.
        schedule: ``none`` leaves loops unscheduled.
        accuracy: ``fast`` allows algorithms whose error against float64 stays below 1e-5 of a
            layer's largest value, for finite inputs; ``strict`` allows none that trades accuracy
            for speed.
        source_code: Whether the generated C is delivered too.
        layouts: Forms for firmware that are delivered too, below ``layouts/``.
        io_in_arena: Whether inputs and outputs lie in the arena, at fixed offsets, where other
            values may take the place of an input that is not needed any more.
        patches: Number of patches in which the first layers are computed; by default as few as
            ``arena_limit``, or else the target's RAM, asks for.
        arena_limit: Bytes that the arena may take.
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
            generator=generator,
            schedule=schedule,
            accuracy=accuracy,
            source_code=source_code,
            layouts=tuple(layouts),
            io_in_arena=io_in_arena,
            patches=patches,
            arena_limit=arena_limit,
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


def fit(
    source: str | Path,
    target: str | None = None,
    *,
    generator: Generator | None = None,
    schedule: Schedule = "tiled",
    accuracy: Accuracy = "fast",
    io_in_arena: bool = False,
    patches: int | None = None,
    arena_limit: int | None = None,
    keys: Sequence[str | Path] = (),
    unchecked: bool = False,
    runner: str | None = None,
    cache: bool = True,
) -> FitReport:
    """Say whether a model fits a board: flash, RAM, instructions and an estimate of the time.

    Args:
        source: Folder of a package, a bundle, or a model; the last two are built for the
            target, in a temporary folder.
        target: Name of the target, or path of a target file; a package's own by default.
        generator: As of ``build``.
        schedule: As of ``build``.
        accuracy: As of ``build``.
        io_in_arena: As of ``build``.
        patches: As of ``build``.
        arena_limit: As of ``build``.
        keys: Public keys; one of them must have signed the bundle.
        unchecked: Do not look at the bundle's signature.
        runner: Who runs it to measure; the target's preferred runner by default.
        cache: Whether what was built before may come from the cache, and is kept there.

    Returns:
        The verdict and all figures; that a model does not fit is no error here.

    Raises:
        mlopsc.errors.MlopscError: It cannot be built or run.
    """
    return fitting.fit(
        Path(source),
        target,
        how=BuildOptions(
            generator=generator,
            schedule=schedule,
            accuracy=accuracy,
            io_in_arena=io_in_arena,
            patches=patches,
            arena_limit=arena_limit,
        ),
        trust=TrustOptions(keys=tuple(Path(key) for key in keys), unchecked=unchecked),
        measuring=fitting.Measuring(runner=runner),
        cache=cache,
    )


def verify(
    artefact: str | Path,
    *,
    keys: Sequence[str | Path] = (),
    roots: Sequence[str | Path] = (),
    revocations: Sequence[str | Path] = (),
    allow_unsigned: bool = False,
    allow_expired: bool = False,
) -> Verification:
    """Check that a bundle or package is whole, in lock-step, signed and not revoked.

    Args:
        artefact: Its path.
        keys: Public keys; one of them must have signed. Those of ``MLOPSC_VERIFY_KEY`` by default.
        roots: Root certificates; or the signer's certificate must lead to one of them.
        revocations: Revocation lists, beside the user's own.
        allow_unsigned: Accept what nobody has signed.
        allow_expired: Accept signatures and certificates whose time is over.

    Returns:
        What was looked at, and the artefact.

    Raises:
        mlopsc.errors.MlopscError: It must not be used.
    """
    options = TrustOptions(
        keys=tuple(map(Path, keys)),
        roots=tuple(map(Path, roots)),
        revocations=tuple(map(Path, revocations)),
        allow_unsigned=allow_unsigned,
        allow_expired=allow_expired,
    )
    return policy.verify(Path(artefact), options)


def sign(
    artefact: str | Path,
    key: str | Path,
    *,
    password: bytes | None = None,
    expires: date | None = None,
    unproven: bool = False,
    force: bool = False,
) -> str:
    """Sign a bundle or a package where it lies.

    Args:
        artefact: Its path.
        key: Private key, PEM.
        password: Of the key; ``MLOPSC_KEY_PASSWORD`` by default, if the key has one.
        expires: The last day on which the signature counts.
        unproven: Sign a package without a passing conformance report; this is recorded.
        force: Replace a signature.

    Returns:
        The name of the key.

    Raises:
        mlopsc.errors.MlopscError: It cannot be signed; nothing was written.
    """
    path = Path(key)
    if password is None and is_encrypted(path):
        password = password_from_environment()
    private = load_private(path, password)
    _, name = signing.sign(Path(artefact), private, expires=expires, unproven=unproven, force=force)
    return name


def trace(artefact: str | Path) -> Node:
    """Return a bundle or package and everything that it was made of, as a tree.

    Raises:
        mlopsc.errors.MlopscError: It is not whole.
    """
    return tracing.trace(Path(artefact))


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
