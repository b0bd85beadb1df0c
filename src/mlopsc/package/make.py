"""Fills a package folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlopsc._version import __version__
from mlopsc.bundle import Bundle, encode_vectors
from mlopsc.errors import GateError
from mlopsc.kernels import POOL, program_files, public_header
from mlopsc.package.documents import bundle_files, ingredients, package_provenance, sbom
from mlopsc.package.driver import EMBED_OFFSET, driver, header, weights_source
from mlopsc.package.example import example_files
from mlopsc.package.gate import ObjectFacts, check_objects, wasm_imports
from mlopsc.package.layouts import Parts, layout_files
from mlopsc.package.selftest import selftest_files
from mlopsc.package.single import single_source
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.bundle import PROVENANCE_FILE
from mlopsc.schema.common import FileEntry, digest_bytes
from mlopsc.schema.package import (
    BUNDLE_FOLDER,
    DESCRIPTOR_FILE,
    LAYOUTS_FOLDER,
    KernelUse,
    Memory,
    Package,
    Tool,
)
from mlopsc.schema.program import Program, calls_in
from mlopsc.schema.sbom import SBOM_FILE
from mlopsc.schema.target import Target
from mlopsc.toolchain import DRIVER_FLAGS, compile_object, link_shared, make_archive
from mlopsc.tools import zig_version

_MEDIA_TYPES = {
    ".a": "application/x-archive", ".so": "application/x-sharedlib", ".c": "text/x-c",
    ".dylib": "application/x-sharedlib", ".h": "text/x-c", ".wasm": "application/wasm",
    ".json": "application/json", ".pb": "application/x-protobuf", ".ll": "text/x-llvm",
    ".md": "text/markdown", ".ld": "text/plain", ".pack": "application/zip",
    ".pdsc": "application/xml", ".yml": "application/yaml", ".yaml": "application/yaml",
}  # fmt: skip


@dataclass(frozen=True)
class CompiledModel:
    """What the compile worker left in its folder.

    Attributes:
        program: The lowered model.
        weights: The weights block.
        kernels: File with the kernels, LLVM IR or C.
        tvm_version: Version of the compiler.
    """

    program: Program
    weights: bytes
    kernels: Path
    tvm_version: str


def make_package(
    compiled: CompiledModel, bundle: Bundle, target: Target, output: Path, options: BuildOptions
) -> Package:
    """Fill the empty folder ``output`` and return its descriptor.

    Args:
        compiled: The lowered model.
        bundle: Where it came from; gives version and vectors.
        target: What it was compiled for.
        output: Folder to fill.
        options: How it was asked for.

    Raises:
        CompilerError: A tool failed.
        GateError: The library needs or holds what a package must not.
    """
    program = compiled.program
    with tempfile.TemporaryDirectory(prefix="mlopsc-package-") as name:
        work = Path(name)
        _write_sources(work, compiled, bundle, target)
        objects = _compile(work, program, target, compiled.kernels.name)
        facts = check_objects(target, {o: (work / o).read_bytes() for o in objects})
        static, shared = _link(work, output, program, target, objects)
        include = output / "include"
        include.mkdir()
        for file in ("mlopsc.h", f"{program.name}.h"):
            shutil.copyfile(work / file, include / file)
        if options.source_code:
            _deliver_source(work, output, compiled)
        selftest = selftest_files(program, bundle, target, facts.code + facts.read_only)
        laid_out = (
            layout_files(options.layouts, _parts(compiled, bundle, target, selftest, output))
            if options.layouts
            else {}
        )
        parts = ingredients(
            program, work, _generated(compiled), tools(compiled.tvm_version), facts.undefined
        )
    for path, data in encode_vectors(
        bundle.vectors, bundle.manifest.inputs, bundle.manifest.outputs
    ).items():
        _write(output / "vectors" / path, data)
    for path, text in example_files(program, bundle, target).items():
        _write(output / "examples" / path, text.encode())
    for path, text in selftest.items() if target.toolchain.system == "bare" else ():
        _write(output / "examples" / path, text.encode())
    for path, data in laid_out.items():
        _write(output / LAYOUTS_FOLDER / path, data)
    _write(output / "LICENSES" / "README.md", licences(bundle).encode())
    for path, data in bundle_files(bundle).items():
        _write(output / BUNDLE_FOLDER / path, data)
    memory = _memory(program, facts)
    package = _describe(compiled, bundle, target, memory, facts, (static, shared), output)
    made = package_provenance(package, bundle, options).to_json().encode()
    package = with_file(package, output, PROVENANCE_FILE, made)
    package = with_file(package, output, SBOM_FILE, sbom(package, bundle, parts).encode())
    _write(output / DESCRIPTOR_FILE, package.to_json().encode())
    return package


def tools(tvm_version: str) -> dict[str, str]:
    """Return the versions of this program and the compilers, by name."""
    return {"mlopsc": __version__, "apache-tvm": tvm_version, "zig": zig_version()}


def with_file(package: Package, output: Path, name: str, data: bytes) -> Package:
    """Write a file into a package, or replace it, and return its descriptor with it listed."""
    _write(output / name, data)
    others = (file for file in package.files if file.path != name)
    files = (*others, _entry(output / name, output))
    return package.model_copy(update={"files": tuple(sorted(files, key=lambda f: f.path))})


def _generated(compiled: CompiledModel) -> list[str]:
    weights = ["weights.c", "weights.bin"] if compiled.program.weights_bytes else []
    return [compiled.kernels.name, "model.c", f"{compiled.program.name}.h", *weights]


def _write_sources(work: Path, compiled: CompiledModel, bundle: Bundle, target: Target) -> None:
    program, version = compiled.program, bundle.manifest.version
    headers, sources = program_files(program)
    for path in (public_header(), *headers, *sources, compiled.kernels):
        shutil.copyfile(path, work / path.name)
    texts = {
        f"{program.name}.h": header(program, version=version, target=target.name),
        "model.c": driver(program, version=version, target=target.name, bundle=bundle.digest),
    }
    if program.weights_bytes:
        texts["weights.c"] = weights_source(program, embed="weights.bin")
        (work / "weights.bin").write_bytes(bytes(EMBED_OFFSET) + compiled.weights)
    for file, text in texts.items():
        (work / file).write_text(text, encoding="utf-8")


def _compile(work: Path, program: Program, target: Target, kernels: str) -> list[str]:
    objects = [
        compile_object(target, "model.c", folder=work, include=["."], flags=DRIVER_FLAGS),
        compile_object(target, kernels, folder=work),
    ]
    if program.weights_bytes:
        objects.append(compile_object(target, "weights.c", folder=work))
    for path in program_files(program)[1]:
        # Without contraction: the same bits on machines with and without fused multiply-add.
        flags = ["-ffp-contract=off"]
        objects.append(compile_object(target, path.name, folder=work, include=["."], flags=flags))
    return objects


def _link(
    work: Path, output: Path, program: Program, target: Target, objects: list[str]
) -> tuple[str, str | None]:
    """Make the libraries in ``output/lib`` and return their paths in the package."""
    library = output / "lib"
    library.mkdir()
    static = f"lib{program.name}.a"
    make_archive(target, objects, static, folder=work)
    shutil.copyfile(work / static, library / static)
    form = target.toolchain.shared
    if form == "none":
        return f"lib/{static}", None
    shared = f"{program.name}.wasm" if form == "wasm" else f"lib{program.name}.{form}"
    exports = ["mlopsc_model_get", f"{program.name}_model", f"{program.name}_run"]
    link_shared(target, objects, shared, exports=exports, folder=work)
    if form == "wasm":
        imports = wasm_imports((work / shared).read_bytes())
        if imports:
            raise GateError(f"the WebAssembly module imports {imports[:8]}; expected no imports")
    shutil.copyfile(work / shared, library / shared)
    return f"lib/{static}", f"lib/{shared}"


def _deliver_source(work: Path, output: Path, compiled: CompiledModel) -> None:
    source = output / "src"
    source.mkdir()
    headers, sources = program_files(compiled.program)
    for path in (*headers, *sources):
        shutil.copyfile(path, source / path.name)
    for file in ("model.c", compiled.kernels.name):
        shutil.copyfile(work / file, source / file)
    if compiled.program.weights_bytes:
        text = weights_source(compiled.program, embed=None, data=compiled.weights)
        (source / "weights.c").write_text(text, encoding="utf-8")


def _parts(
    compiled: CompiledModel,
    bundle: Bundle,
    target: Target,
    selftest: Mapping[str, str],
    output: Path,
) -> Parts:
    """Return what layouts are made of."""
    program = compiled.program
    headers, sources = program_files(program)
    single = single_source(
        program,
        compiled.kernels.read_text(encoding="utf-8"),
        compiled.weights if program.weights_bytes else b"",
        [path for path in (*headers, *sources) if path.name != POOL],
        version=bundle.manifest.version,
        target=target.name,
        bundle=bundle.digest,
    )
    return Parts(
        program=program,
        target=target,
        version=bundle.manifest.version,
        bundle=bundle.digest,
        single=single,
        library=(output / "lib" / f"lib{program.name}.a").read_bytes(),
        selftest=selftest,
        licences=licences(bundle),
    )


def _memory(program: Program, facts: ObjectFacts) -> Memory:
    return Memory(
        code=facts.code,
        read_only=facts.read_only,
        weights=program.weights_bytes,
        writable=facts.writable,
        arena=program.arena_bytes,
        arena_align=program.arena_align,
        arena_lower_bound=program.arena_lower_bound,
        io=0 if program.arena_io else sum(s.nbytes for s in (*program.inputs, *program.outputs)),
    )


def _describe(
    compiled: CompiledModel,
    bundle: Bundle,
    target: Target,
    memory: Memory,
    facts: ObjectFacts,
    libraries: tuple[str, str | None],
    output: Path,
) -> Package:
    program = compiled.program
    calls = [call.kernel for call in calls_in(program.steps)]
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return Package(
        name=program.name,
        version=bundle.manifest.version,
        bundle=bundle.digest,
        target=target,
        generator=program.generator,
        schedule=program.schedule,
        accuracy=program.accuracy,
        inputs=program.inputs,
        outputs=program.outputs,
        memory=memory,
        arena_io=program.arena_io,
        kernels=tuple(
            KernelUse(symbol=s, schedule=k.schedule, calls=calls.count(s))
            for s, k in program.kernels.items()
        ),
        static_library=libraries[0],
        shared_library=libraries[1],
        undefined_symbols=tuple(sorted(facts.undefined)),
        vectors=bundle.manifest.vectors,
        tools=tuple(
            Tool(name=name, version=version)
            for name, version in tools(compiled.tvm_version).items()
        ),
        files=tuple(_entry(path, output) for path in files),
        timeline=program.timeline,
    )


def _entry(path: Path, root: Path) -> FileEntry:
    data = path.read_bytes()
    return FileEntry(
        path=path.relative_to(root).as_posix(),
        digest=digest_bytes(data),
        size=len(data),
        media_type=_MEDIA_TYPES.get(path.suffix, "text/plain"),
    )


def licences(bundle: Bundle) -> str:
    """Return what a package says about licences, as Markdown."""
    return (
        "# Licences\n\n"
        "- The runtime functions and headers of this package (`mlopsc.h`, `mlopsc_*.c`) and\n"
        "  the example are Apache-2.0, as mlopsc.\n"
        f"- The model '{bundle.manifest.name}' and its weights keep the licence of their source\n"
        f"  ({bundle.manifest.stages[-1].source.digest}).\n"
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
