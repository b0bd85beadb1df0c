"""The documents of a package: what went in, how it was made, and what it knows of its bundle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from mlopsc._version import __version__
from mlopsc.bundle import Bundle
from mlopsc.documents import lineage_of
from mlopsc.kernels import program_files, public_header
from mlopsc.sbom import package_sbom
from mlopsc.schema.attestation import (
    BUILD_TYPE,
    PROVENANCE_PREDICATE,
    Statement,
    provenance,
    resource,
    statement,
)
from mlopsc.schema.build_options import BuildOptions
from mlopsc.schema.bundle import MANIFEST_FILE
from mlopsc.schema.common import Digest, digest_bytes, digest_file
from mlopsc.schema.package import BUNDLE_FILES, Package
from mlopsc.schema.program import Program
from mlopsc.schema.sbom import Ingredient

_FUNCTION = re.compile(
    r"^(?:define [^\n]*?@(?P<ll>[\w.]+)\(|[a-z][^\n;(]*? \*?(?P<c>\w+)\()[^;{]*\{\n.*?^\}\n",
    re.MULTILINE | re.DOTALL,
)
_LICENCE = "Apache-2.0"  # of mlopsc and of TVM
_ZIG_LICENCES = "MIT AND Apache-2.0 WITH LLVM-exception"  # Zig, and the clang that it is


def ingredients(
    program: Program,
    work: Path,
    generated: Sequence[str],
    tools: Mapping[str, str],
    undefined: Iterable[str],
) -> tuple[Ingredient, ...]:
    """Return what really goes into a library, and what makes it.

    Args:
        program: The lowered model.
        work: Where the generated files are.
        generated: Their names, the file of the kernels first.
        tools: Versions of the compilers by name.
        undefined: Symbols that the library expects where it runs.
    """
    functions = functions_in((work / generated[0]).read_text(encoding="utf-8"))
    headers, sources = program_files(program)
    licences = {"mlopsc": _LICENCE, "apache-tvm": _LICENCE, "zig": _ZIG_LICENCES}
    expected = sorted(undefined)
    return (
        *(
            Ingredient(
                kind="kernel",
                name=symbol,
                digest=_digest(functions, [symbol, *(p.symbol for p in kernel.phases)]),
            )
            for symbol, kernel in program.kernels.items()
        ),
        *(
            Ingredient(kind="generated", name=name, digest=digest_file(work / name))
            for name in generated
        ),
        *(
            Ingredient(
                kind="runtime",
                name=path.name,
                version=__version__,
                licence=_LICENCE,
                digest=digest_file(path),
            )
            for path in (public_header(), *headers, *sources)
        ),
        *(
            Ingredient(kind="compiler", name=name, version=number, licence=licences[name])
            for name, number in tools.items()
        ),
        *(Ingredient(kind="library", name=f"{s} (of the platform)") for s in expected),
    )


def functions_in(text: str) -> dict[str, bytes]:
    """Return the functions of a generated file, C or LLVM IR, by name."""
    return {m["ll"] or m["c"]: m[0].encode() for m in _FUNCTION.finditer(text)}


def _digest(functions: Mapping[str, bytes], symbols: Iterable[str]) -> Digest | None:
    """Return the digest of the functions of one kernel."""
    found = [functions[symbol] for symbol in symbols if symbol in functions]
    return digest_bytes(*found) if found else None


def package_provenance(package: Package, bundle: Bundle, options: BuildOptions) -> Statement:
    """Return how a package was made; its ``files`` are what the claim is about."""
    made = provenance(
        BUILD_TYPE,
        external={"options": options.model_dump(mode="json", exclude={"bundle_signer"}),
                  "target": package.target.model_dump(mode="json")},
        internal={"bundleSigner": options.bundle_signer},
        dependencies=[resource(f"{package.name}.mlb", bundle.digest, kind="bundle")],
        versions=build_versions({tool.name: tool.version for tool in package.tools}),
    )  # fmt: skip
    return statement(package.files, PROVENANCE_PREDICATE, made)


def build_versions(tools: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of everything that takes part in a build: ``tools``, and libraries."""
    return {**tools, **{name: version(name) for name in ("apache-tvm-ffi", "numpy", "onnx-ir")}}


def sbom(package: Package, bundle: Bundle, parts: Sequence[Ingredient]) -> str:
    """Return the bill of materials of a package whose ``files`` are all but this one."""
    return package_sbom(package, bundle.manifest, lineage_of(bundle.documents), parts)


def bundle_files(bundle: Bundle) -> dict[str, bytes]:
    """Return what a package keeps of its bundle, by name."""
    everything = {MANIFEST_FILE: bundle.manifest_bytes, **bundle.documents}
    return {name: everything[name] for name in BUNDLE_FILES if name in everything}
