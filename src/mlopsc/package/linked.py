"""Measures what the linker keeps of a package, in a program that does nothing but run the model."""

from __future__ import annotations

import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from elftools.elf.elffile import ELFFile

from mlopsc.errors import BrokenPackageError, CompilerError
from mlopsc.package_reader import LoadedPackage
from mlopsc.schema.fit import FlashUse
from mlopsc.toolchain import link_image

_WRITE, _ALLOCATE, _EXECUTE = 1, 2, 4  # section flags of ELF
_IMAGE: Final = "image.elf"


@dataclass(frozen=True)
class StaticUse:
    """What a program that runs the model holds of it: flash, and writable data in RAM."""

    flash: FlashUse
    writable: int


def measure_static(package: LoadedPackage, limit: int | None) -> StaticUse:
    """Return the flash and the writable data that the library takes.

    For a bare machine a program is linked that does nothing but run the model, without what nobody
    calls, and its sections are added up. Elsewhere libraries are loaded whole.

    Args:
        package: A verified package.
        limit: Flash of the board, for the result.

    Raises:
        BrokenPackageError: The library cannot be linked.
    """
    if package.info.target.toolchain.system != "bare":
        memory = package.info.memory
        flash = FlashUse(
            code=memory.code,
            weights=memory.weights,
            constants=memory.read_only - memory.weights,
            initial=0,
            measured="objects",
            limit=limit,
        )
        return StaticUse(flash, memory.writable)
    elf = ELFFile(io.BytesIO(_link(package)))
    sizes = dict.fromkeys(("code", "constants", "initial", "writable"), 0)
    for section in elf.iter_sections():
        if not section["sh_flags"] & _ALLOCATE:
            continue
        size = int(section["sh_size"])
        if section["sh_flags"] & _WRITE:
            sizes["writable"] += size
            sizes["initial"] += size if section["sh_type"] != "SHT_NOBITS" else 0
        else:
            sizes["code" if section["sh_flags"] & _EXECUTE else "constants"] += size
    weights = _size_of(elf, f"{package.info.name}_weights")
    flash = FlashUse(
        code=sizes["code"],
        weights=weights,
        constants=sizes["constants"] - weights,
        initial=sizes["initial"],
        measured="linked",
        limit=limit,
    )
    return StaticUse(flash, sizes["writable"])


def _link(package: LoadedPackage) -> bytes:
    info = package.info
    entry = f"{info.name}_run"
    with tempfile.TemporaryDirectory(prefix="mlopsc-fit-") as name:
        folder = Path(name)
        library = Path(info.static_library).name
        shutil.copyfile(package.path / info.static_library, folder / library)
        flags = ["-static", "-Wl,--gc-sections", f"-Wl,-e,{entry}", f"-Wl,-u,{entry}"]
        try:
            link_image(info.target, [library], _IMAGE, folder=folder, flags=flags)
        except CompilerError as error:
            raise BrokenPackageError(f"'{library}' cannot be linked: {error.message}") from error
        return (folder / _IMAGE).read_bytes()


def _size_of(elf: Any, symbol: str) -> int:
    found = elf.get_section_by_name(".symtab").get_symbol_by_name(symbol)
    return int(found[0]["st_size"]) if found else 0
