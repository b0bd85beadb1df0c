"""The order of the stages. Nothing else knows it.

``import_model`` → bundle; ``check_model`` → verdict; ``build`` → packages, one per target;
``conform`` → report; ``run`` → outputs; ``preprocess`` → an ONNX file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlopsc.cache import Cache, open_cache
from mlopsc.errors import BrokenBundleError, InputError, LimitError, MlopscError, OutputError
from mlopsc.frontends import ONNX, recognise
from mlopsc.frontends.onnx import onnx_file
from mlopsc.import_job import export, export_object, import_ready, import_to, run_import
from mlopsc.lineage_file import LINEAGE_YAML
from mlopsc.outputs import atomic_file, atomic_folders, check_folder, check_free
from mlopsc.preprocessing import Converted, as_onnx, check_onnx_output, write_onnx
from mlopsc.schema.build_options import UNSIGNED, BuildOptions
from mlopsc.schema.bundle import BUNDLE_SUFFIX, is_bundle
from mlopsc.schema.conformance import ConformanceReport
from mlopsc.schema.import_options import ImportOptions
from mlopsc.schema.package import REPORT_FILE, Package
from mlopsc.schema.program import PROGRAM_FILE, WEIGHTS_FILE, Program
from mlopsc.schema.target import Limits, Target
from mlopsc.snapshot import Snapshot, take_snapshot
from mlopsc.targets import load_target
from mlopsc.tools import IMPORT_TIMEOUT_S, RUN_TIMEOUT_S, run_worker
from mlopsc.trust.artefact import Artefact, open_artefact
from mlopsc.trust.log import record_artefact
from mlopsc.trust.policy import TrustOptions, authorise, refuse_revoked
from mlopsc.trust.revocations import read_revocations

if TYPE_CHECKING:  # loaded when they are needed: what is in the cache needs no stage
    from mlopsc.bundle import Bundle
    from mlopsc.importer import OperatorUse
    from mlopsc.package import CompiledModel
    from mlopsc.runners import RunResult

MAX_WEIGHTS = (1 << 31) - (1 << 26)  # of a library: code beside the weights must reach their ends
UNCHANGED = "unchanged (cache)"
NOT_SIGNED = "not signed, which the packages record"
Progress = Callable[[str, str], None]  # target, or "import"; what is being done
_DEFAULTS = BuildOptions()
_NOBODY = TrustOptions()


class _Compiled(NamedTuple):
    """A model that was compiled for a target, and the bundle it is of."""

    target: Target
    bundle: Bundle
    model: CompiledModel


@dataclass(frozen=True)
class Verdict:
    """What an import would say of a model.

    Attributes:
        problems: Why it is refused; empty if it is not.
        inputs: Names, types and shapes of the raw inputs, if it is accepted.
        outputs: The same of the outputs.
        operators: What its normal form consists of.
        what: What the source was taken for.
    """

    problems: tuple[MlopscError, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    operators: tuple[OperatorUse, ...] = ()
    what: str = ""


def import_model(
    source: Path,
    output: Path,
    options: ImportOptions,
    *,
    force: bool = False,
    cache: bool = True,
    timeout: float = IMPORT_TIMEOUT_S,
    progress: Progress = lambda target, what: None,
) -> Bundle:
    """Import ``source`` and write the bundle to ``output``; stop after ``timeout`` seconds.

    Args:
        source: A model that a frontend recognises: a file or a folder.
        output: The bundle.
        options: How to import.
        force: Replace a bundle that exists.
        cache: Whether the result may come from the cache, and is kept there.
        timeout: Seconds until the import is stopped.
        progress: Told what a source that is no ONNX was taken for, and if the bundle is
            ``UNCHANGED``.

    Raises:
        MlopscError: See ``mlopsc.errors``; nothing is written then.
    """
    found = open_cache(enabled=cache)
    options = with_lineage(source, options)
    with atomic_file(output, force=force) as path, as_onnx(options) as ready:
        if import_to(
            source, path, ready, shown=output, timeout=timeout, cache=found,
            taken=lambda what: progress("source", what),
        ):  # fmt: skip
            progress("import", UNCHANGED)
        return _finish(path, source, output)


def import_object(
    model: object,
    example: object,
    output: Path,
    options: ImportOptions,
    *,
    force: bool = False,
    timeout: float = IMPORT_TIMEOUT_S,
) -> Bundle:
    """Import a model that is in memory, in its framework's own form, and write the bundle.

    The framework exports it here, in this process; everything else is as for files.

    Args:
        model: Such as a ``torch.nn.Module``, an estimator or a function.
        example: Inputs it takes, in the form that its frontend says.
        output: The bundle.
        options: How to import.
        force: Replace a bundle that exists.
        timeout: Seconds until the import is stopped.

    Raises:
        MlopscError: See ``mlopsc.errors``; nothing is written then.
    """
    with (
        atomic_file(output, force=force) as path,
        as_onnx(options) as given,
        export_object(model, example, given, output.stem) as ready,
    ):
        import_ready(ready, path, shown=output, timeout=timeout)
        return _finish(path, output, output)


def _finish(path: Path, source: Path, output: Path) -> Bundle:
    """Check the bundle at ``path``, note that it was made, and return it."""
    artefact = open_artefact(path)
    read_revocations().check(source, artefact.ancestors())
    record_artefact("import", artefact, output)
    return artefact.require_bundle()


def with_lineage(source: Path, options: ImportOptions) -> ImportOptions:
    """Return ``options`` with the lineage file that lies beside the model, if none is given."""
    beside = source.parent / LINEAGE_YAML
    if options.lineage is None and options.find_lineage and beside.is_file():
        return replace(options, lineage=beside)
    return options


def check_model(
    source: Path, options: ImportOptions, *, timeout: float = IMPORT_TIMEOUT_S
) -> Verdict:
    """Return what an import of ``source`` would say, all problems at once; write nothing."""
    from mlopsc.importer import OperatorUse

    what = ""
    try:
        found = recognise(source)
        what = found.what
        if found.framework == ONNX:
            source = onnx_file(source)
        with (
            as_onnx(with_lineage(source, options)) as given,
            export(source, found, given, timeout) as ready,
        ):
            reply = run_import(
                "check_file", ready.source, ready.options, timeout, **ready.arguments
            )
    except MlopscError as error:
        return Verdict(problems=(error, *error.also), what=what)
    return Verdict(
        what=what,
        inputs=tuple(reply["inputs"]),
        outputs=tuple(reply["outputs"]),
        operators=tuple(
            OperatorUse(use["op"], use["nodes"], tuple(use["types"])) for use in reply["operators"]
        ),
    )


def preprocess(source: Path, output: Path, *, force: bool = False) -> Converted:
    """Write the ONNX file that steps or a Python file become.

    Args:
        source: Steps, a Python file, or an ONNX file, which is checked and copied.
        output: The ONNX file, ``.onnx``; not the source.
        force: Replace a file that exists.

    Raises:
        MlopscError: See ``mlopsc.errors``; nothing is written then.
    """
    check_onnx_output(source, output)
    with atomic_file(output, force=force) as path:
        return write_onnx(source, path)


def build(
    source: Path,
    targets: Sequence[str],
    output: Path,
    *,
    options: ImportOptions | None = None,
    how: BuildOptions = _DEFAULTS,
    trust: TrustOptions = _NOBODY,
    force: bool = False,
    cache: bool = True,
    logged: bool = True,
    progress: Progress = lambda target, what: None,
) -> dict[str, Package]:
    """Build one package per target, as ``output/<target>``; all appear or none.

    Args:
        source: A bundle, or a model that a frontend recognises and that is imported first.
        targets: Names or paths of target files.
        output: Folder for the package folders; may exist.
        options: How to import, if ``source`` is not a bundle.
        how: How to compile; who signed the bundle is found out here.
        trust: Whom to believe, if ``source`` is a signed bundle.
        force: Replace packages that exist.
        cache: Whether results may come from the cache, and are kept there.
        logged: Whether the log gets an entry for each package.
        progress: Called with the target and the step that begins; ``UNCHANGED`` if there is none.
            With "bundle" and ``NOT_SIGNED`` for a bundle that nobody has signed.

    Raises:
        MlopscError: See ``mlopsc.errors``; no package is written then.
    """
    return build_for(
        source,
        [load_target(name) for name in targets],
        output,
        options=options,
        how=how,
        trust=trust,
        force=force,
        cache=cache,
        logged=logged,
        progress=progress,
    )


def build_for(
    source: Path,
    loaded: Sequence[Target],
    output: Path,
    *,
    options: ImportOptions | None = None,
    how: BuildOptions = _DEFAULTS,
    trust: TrustOptions | None = _NOBODY,
    force: bool = False,
    cache: bool = True,
    logged: bool = True,
    within_limits: bool = True,
    progress: Progress = lambda target, what: None,
) -> dict[str, Package]:
    """As ``build``, for targets that are loaded already.

    Without ``trust`` the bundle has been judged already: what ``how`` says of it is recorded.
    Without ``within_limits`` the packages may need more flash and RAM than their targets have.
    """
    names = [t.name for t in loaded]
    if not loaded or len(set(names)) != len(names):
        raise InputError(f"targets are {names}; expected at least one, each once")
    if how.layouts:
        from mlopsc.package import check_layouts

        for target in loaded:
            check_layouts(target, how)
    check_folder(output)
    for target in loaded:
        check_free(output / target.name, force=force)
    results = open_cache(enabled=cache)
    with tempfile.TemporaryDirectory(prefix="mlopsc-build-") as name:
        work = Path(name)
        bundle = as_bundle(source, options, work, results, progress)
        artefact = open_artefact(bundle)
        if trust is not None:
            signer, allowed = authorise(artefact, trust)
            how = how.model_copy(update={"bundle_signer": signer, "allowed": allowed})
            if signer == UNSIGNED and bundle == source:
                progress("bundle", NOT_SIGNED)
        snapshot = take_snapshot({"bundle": bundle}, limit=results.limit)
        keys = {t.name: _key(snapshot, t, how) for t in loaded} if snapshot is not None else {}
        ready: dict[str, Path] = {}
        for name, key in keys.items():
            if results.fetch(key, work / "unchanged" / name):
                ready[name] = work / "unchanged" / name
                progress(name, UNCHANGED)
        changed = [target for target in loaded if target.name not in ready]
        for target in changed:
            _check_weights(artefact.require_bundle(), target, how, within_limits=within_limits)
        compiled = _compile_all(bundle, artefact, changed, how, work, progress)
        with atomic_folders(output, names, force=force) as staging:
            for name, folder in ready.items():
                (staging / name).rmdir()
                shutil.move(folder, staging / name)
            if changed:
                _package_all(compiled, staging, how, progress)
                if snapshot is not None and snapshot.holds():
                    for target in changed:
                        results.store(keys[target.name], staging / target.name)
            made = {name: open_artefact(staging / name) for name in names}
            packages = {name: each.require_package().info for name, each in made.items()}
            for target in loaded:
                if packages[target.name].bundle != artefact.digest:
                    raise BrokenBundleError(f"'{bundle}' was replaced while it was being built")
                if within_limits:
                    _check_limits(staging / target.name, target)
            for name in names if logged else ():
                flags = list(how.allowed)
                record_artefact("build", made[name], output / name, target=name, allowed=flags)
            return packages


def as_bundle(
    source: Path, options: ImportOptions | None, work: Path, cache: Cache, progress: Progress
) -> Path:
    """Return the bundle that ``source`` is, or that is made of it in ``work``."""
    if is_bundle(source):
        if options is not None and options != ImportOptions():
            raise InputError(
                f"'{source}' is a bundle: import options do not apply to it",
                hint="give them to 'mlopsc import'",
            )
        return source
    path = work / f"model{BUNDLE_SUFFIX}"
    with as_onnx(with_lineage(source, options or ImportOptions())) as ready:
        if import_to(
            source, path, ready, shown=path, timeout=IMPORT_TIMEOUT_S, cache=cache,
            taken=lambda what: progress("source", what),
        ):  # fmt: skip
            progress("import", UNCHANGED)
    return path


def _key(snapshot: Snapshot, target: Target, how: BuildOptions) -> str:
    """Return the key of a package in the cache."""
    about = {**how.model_dump(mode="json"), "target": target.model_dump(mode="json")}
    return snapshot.key("package", **about)


def _compile_all(
    path: Path,
    artefact: Artefact,
    targets: Sequence[Target],
    how: BuildOptions,
    work: Path,
    progress: Progress,
) -> list[_Compiled]:
    """Compile the bundle at ``path``, read as ``artefact``, for several targets at once."""
    if not targets:
        return []
    bundle = artefact.require_bundle()

    def compile_one(target: Target) -> _Compiled:
        progress(target.name, "compiling")
        return _Compiled(target, bundle, _compile(path, bundle, target, how, work))

    with ThreadPoolExecutor(max_workers=min(len(targets), os.cpu_count() or 1)) as pool:
        return list(pool.map(compile_one, targets))


def _check_limits(folder: Path, target: Target) -> None:
    """Refuse a package that needs more than its target has."""
    from mlopsc.package import check_limits, needs_of
    from mlopsc.package_reader import read_package

    if target.limits != Limits():
        package = read_package(folder, verify=False)
        check_limits(target, needs_of(package), what=f"model '{package.info.name}'")


def _check_weights(
    bundle: Bundle, target: Target, how: BuildOptions, *, within_limits: bool
) -> None:
    """Refuse, before compiling, a model whose weights alone exceed the target, or any library."""
    from mlopsc.package import Needs, check_limits

    size = sum(len(w.data) for stage in bundle.stages for w in stage.weights.values())
    if size > MAX_WEIGHTS:
        raise LimitError(
            f"model '{bundle.manifest.name}' has {size} bytes of weights; a library holds at most "
            f"{MAX_WEIGHTS}, which 32-bit offsets reach",
            hint="quantise the model or split it; a bundle may be of any size",
        )
    if not within_limits:
        return
    io = [
        sum(s.nbytes for s in specs) for specs in (bundle.manifest.inputs, bundle.manifest.outputs)
    ]
    check_limits(
        target,
        Needs(
            flash=sum(stage.parameters for stage in bundle.manifest.stages),
            # Outputs may lie where inputs were.
            ram=max(io) if how.io_in_arena else sum(io),
        ),
        what=f"model '{bundle.manifest.name}' (weights, inputs and outputs alone)",
        hint=f"'mlopsc fit' with '--target {target.name}' says what to change",
    )


def _compile(
    path: Path, bundle: Bundle, target: Target, how: BuildOptions, work: Path
) -> CompiledModel:
    from mlopsc.package import CompiledModel

    folder = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=work))
    reply: dict[str, Any] = run_worker(
        "mlopsc.compile_worker:compile_model",
        {
            "bundle": str(path.resolve()),
            "digest": bundle.digest,
            "target": target.model_dump(mode="json"),
            "generator": how.generator or target.compile.generator,
            "schedule": how.schedule,
            "accuracy": how.accuracy,
            "io_in_arena": how.io_in_arena,
            "patches": how.patches,
            "arena_limit": how.arena_limit,
            "folder": str(folder),
        },
    )
    return CompiledModel(
        program=Program.from_file(folder / PROGRAM_FILE),
        weights=(folder / WEIGHTS_FILE).read_bytes(),
        kernels=folder / reply["kernels"],
        tvm_version=reply["tvm"],
    )


def _package_all(
    compiled: Sequence[_Compiled], output: Path, how: BuildOptions, progress: Progress
) -> None:
    """Fill the empty folders ``output/<target>``."""
    from mlopsc.package import make_package

    for target, bundle, model in compiled:
        progress(target.name, "packaging")
        make_package(model, bundle, target, output / target.name, how)
        progress(target.name, "done")


def conform(
    package: Path,
    *,
    bundle: Path | None = None,
    runner: str | None = None,
    write: bool = True,
    output: Path | None = None,
    revocations: tuple[Path, ...] = (),
    timeout: float = RUN_TIMEOUT_S,
) -> ConformanceReport:
    """Judge the package in folder ``package`` and write its ``conformance.json``.

    The report that a signed package carries is its signer's: it stays if this one passes, too.

    Args:
        package: The folder.
        bundle: If given, the reference runs its graph now.
        runner: Which runner; the target's first by default.
        write: Whether the report is written.
        output: Where to write it instead; the package stays as it is.
        revocations: Revocation lists, beside the user's own.
        timeout: Seconds until the run is stopped.

    Raises:
        RevokedError: The package must not be used.
        MissingToolError, BrokenPackageError: It cannot be judged; a report from before is removed.
    """
    from mlopsc.bundle import read_bundle
    from mlopsc.conformance import conform_package
    from mlopsc.package_reader import read_package

    report_path = output or package / REPORT_FILE
    # Before anything is removed from what may be no package, or must not be used.
    found = read_package(package, verify=False)
    refuse_revoked(found, revocations)
    signed = output is None and bool(found.signatures()) and report_path.is_file()
    if write and not signed:
        try:
            report_path.unlink(missing_ok=True)  # a verdict of the past must not outlive a failure
        except OSError as error:
            raise OutputError(f"cannot write '{report_path}': {error.strerror}") from error
    loaded = read_package(package)
    opened = read_bundle(bundle) if bundle is not None else None
    report = conform_package(loaded, bundle=opened, runner=runner, timeout=timeout)
    if write and not (signed and report.verdict == "pass"):
        with atomic_file(report_path, force=True) as path:
            path.write_text(report.to_json(), encoding="utf-8")
    return report


def run(
    package: Path,
    inputs: Mapping[str, Any],
    *,
    runner: str | None = None,
    count: bool = False,
    threads: int | None = None,
    revocations: tuple[Path, ...] = (),
) -> RunResult:
    """Run the package in folder ``package`` once on ``inputs``, on whatever it was built for.

    Outputs that have labels are arrays of ``str`` (dtype object).

    Raises:
        InputError: The inputs or the number of threads do not fit.
        MissingToolError, BrokenPackageError: It cannot be run.
    """
    from mlopsc.labels import to_strings
    from mlopsc.loader import check_inputs
    from mlopsc.package_reader import read_package
    from mlopsc.runners import run_package

    loaded = read_package(package)
    refuse_revoked(loaded, revocations)
    arrays = check_inputs(inputs, loaded.info.inputs)
    result = run_package(loaded, [arrays], runner=runner, count=count, threads=threads)
    return replace(result, outputs=[to_strings(o, loaded.info.outputs) for o in result.outputs])
