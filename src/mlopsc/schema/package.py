"""``model.json`` of a package: everything a program needs to know to use the library."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from mlopsc.schema.bundle import MANIFEST_FILE, PROVENANCE_FILE, VectorsRecord
from mlopsc.schema.common import ArenaOffsets, Digest, FileEntry, Frozen, TensorSpec
from mlopsc.schema.lineage import LINEAGE_FILE
from mlopsc.schema.sbom import SBOM_FILE
from mlopsc.schema.target import Accuracy, Generator, Schedule, Target
from mlopsc.schema.timeline import Timeline
from mlopsc.schema.versions import Upgrade, parse_versioned

ABI_VERSION: Final = 1
DESCRIPTOR_FILE: Final = "model.json"
REPORT_FILE: Final = "conformance.json"
LAYOUTS_FOLDER: Final = "layouts"
# What a package keeps of its bundle: the way back to where the model came from.
BUNDLE_FOLDER: Final = "bundle"
BUNDLE_FILES: Final = (MANIFEST_FILE, LINEAGE_FILE, PROVENANCE_FILE)
PACKAGE_DOCUMENTS: Final = (
    SBOM_FILE, PROVENANCE_FILE, *(f"{BUNDLE_FOLDER}/{name}" for name in BUNDLE_FILES)
)  # fmt: skip


class Memory(Frozen):
    """What the library takes, in bytes.

    Attributes:
        code: Instructions of all members of the static library.
        read_only: Constants, weights included.
        weights: Of those, the weights.
        writable: Static data: the thread pool's, or 0.
        arena: Scratch that the caller provides.
        arena_align: Its alignment.
        arena_lower_bound: Largest sum of bytes alive at one step: no arena for this order of calls
            is smaller.
        io: Inputs and outputs together, if they lie outside the arena; otherwise 0.
    """

    code: int
    read_only: int
    weights: int
    writable: int
    arena: int
    arena_align: int
    arena_lower_bound: int
    io: int


class Tool(Frozen):
    """A tool that took part in making the package."""

    name: str
    version: str


class KernelUse(Frozen):
    """One kernel, how it was scheduled and how often it is called."""

    symbol: str
    schedule: str
    calls: int


class Package(Frozen):
    """``model.json``, schema version 4.

    Attributes:
        name: Name of the model and prefix of its C symbols.
        version: The user's version of the model.
        bundle: Digest of the bundle's manifest.
        target: The full definition of the target, as used.
        accuracy: Whether any kernel trades accuracy for speed (``fast``).
        abi_version: Of the C ABI and the descriptor.
        static_library: Path inside the package.
        shared_library: Path inside the package, or none.
        arena_io: Where inputs and outputs lie in the arena, or None if they are the caller's.
        undefined_symbols: What the library expects at link time; the gate has checked each.
        files: Every file of the package with its digest.
        timeline: Which nodes the steps compute, and when the blocks of the arena are needed.
    """

    schema_version: Literal[4] = 4
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    version: str
    bundle: Digest
    target: Target
    generator: Generator
    schedule: Schedule
    accuracy: Accuracy
    abi_version: Literal[1] = ABI_VERSION
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    memory: Memory
    arena_io: ArenaOffsets | None = None
    kernels: tuple[KernelUse, ...]
    static_library: str
    shared_library: str | None
    undefined_symbols: tuple[str, ...]
    vectors: VectorsRecord
    tools: tuple[Tool, ...]
    files: tuple[FileEntry, ...]
    timeline: Timeline = Timeline()


def _from_1(package: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had no SBOM, provenance or documents of the bundle."""
    return {**package, "schema_version": 2}


def _from_2(package: dict[str, Any]) -> dict[str, Any]:
    """Version 2 did not say what steps compute, or where inputs and outputs lie in the arena."""
    return {**package, "schema_version": 3}


def _from_3(package: dict[str, Any]) -> dict[str, Any]:
    """Version 3 knew no inputs with labels."""
    return {**package, "schema_version": 4}


_UPGRADES: Final[dict[int, Upgrade]] = {1: _from_1, 2: _from_2, 3: _from_3}
PACKAGE_VERSIONS: Final = len(_UPGRADES) + 1


def parse_package(data: bytes, what: str) -> tuple[Package, int]:
    """Return a descriptor of any version in today's form, and its version; ``what`` is whose.

    Raises:
        FormatVersionError, ValueError: As ``parse_versioned``.
    """
    return parse_versioned(data, Package, _UPGRADES, what)
