"""What a result depends on, as it was at one moment; makes the keys of the cache.

A result depends on the files it is made of, on options, and on the *environment*: this program's
own code and C, every Python package beside it, the processor, and the variables that compilers and
libraries read.

Ensures: two results with equal keys are equal, byte for byte. When in doubt there is no snapshot:
then the result is made, and not stored.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlopsc._loaded import LOADED_AT
from mlopsc.cache import FOLDER_VARIABLE, SIZE_VARIABLE
from mlopsc.host import cpu_facts
from mlopsc.resources import kernels_dir
from mlopsc.schema.common import Digest, digest_bytes, digest_file

# Prefixes of variables that compilers, linkers, ONNX Runtime and TVM read.
_VARIABLES = (
    "CC", "CLANG_", "COMPILER_PATH", "CPATH", "CPLUS_", "C_INCLUDE_PATH", "GCC_", "GLIBC_",
    "LD_", "LIBRARY_PATH", "LLVM_", "MACOSX_", "NIX_", "OBJC_", "OMP_", "ONNX", "OPENBLAS_",
    "ORT_", "PYTHON", "SDKROOT", "SOURCE_DATE_EPOCH", "TVM_", "ZIG_",
)  # fmt: skip
_WITHOUT_EFFECT = (
    FOLDER_VARIABLE,
    SIZE_VARIABLE,
    "ZIG_GLOBAL_CACHE_DIR",
    "ZIG_LOCAL_CACHE_DIR",
)
_METADATA = (".dist-info", ".egg-info", ".egg-link", ".pth")
_CLOCK_S = 0.1  # how far times of files may be behind the clock

State = tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """Files and the environment at one moment.

    Attributes:
        files: By their role.
        digests: Of each file.
        states: Of each file: device, inode, size, times.
        environment: Digest of everything else that results depend on.
    """

    files: Mapping[str, Path]
    digests: Mapping[str, Digest]
    states: Mapping[str, State]
    environment: Digest

    def key(self, result: str, **options: Any) -> Digest:
        """Return the key of what is made of these files with ``options``, which are JSON."""
        parts = {
            "result": result,
            "files": dict(self.digests),
            "environment": self.environment,
            "options": options,
        }
        return digest_bytes(json.dumps(parts, sort_keys=True).encode())

    def holds(self) -> bool:
        """Whether nothing has changed since: what was made meanwhile was made of this."""
        return take_snapshot(self.files) == self


def take_snapshot(files: Mapping[str, Path], *, limit: int | None = None) -> Snapshot | None:
    """Return a snapshot, or None if results cannot be told by one.

    Args:
        files: By their role; regular files.
        limit: Bytes that all files together stay below; results of more would not be stored.
    """
    try:
        states = {role: _state(path) for role, path in files.items()}
        if limit is not None and sum(size for _, _, size, *_ in states.values()) >= limit:
            return None
        digests = {role: digest_file(path) for role, path in files.items()}
        if {role: _state(path) for role, path in files.items()} != states:
            return None
        environment = _environment()
    except (OSError, ValueError):  # what cannot be read is reported by who needs it
        return None
    return None if environment is None else Snapshot(dict(files), digests, states, environment)


def _state(path: Path) -> State:
    """Return what changes when a file does, the size third.

    Raises:
        ValueError: It is no regular file: a pipe or a device may never end.
        OSError: It cannot be looked at.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"'{path}' is no regular file")
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _environment() -> Digest | None:
    """Return the digest of all that is not given, or None if it changed while this process ran.

    What this process has loaded may then be older than what is on the disk.

    Raises:
        OSError: Something cannot be read.
    """
    latest = (LOADED_AT - _CLOCK_S) * 1e9
    state = hashlib.sha256()
    facts = {
        "python": sys.version,
        "machine": [platform.system(), platform.machine(), *platform.libc_ver()],
        "processor": cpu_facts(),
        "variables": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(_VARIABLES) and name not in _WITHOUT_EFFECT
        },
    }
    state.update(json.dumps(facts, sort_keys=True).encode())
    for path in _code():
        if path.stat().st_ctime_ns > latest:
            return None
        state.update(f"\0{path}\0".encode(errors="surrogateescape"))
        state.update(path.read_bytes())
    for path in _installed():
        found = path.stat()
        if found.st_ctime_ns > latest:
            return None
        state.update(f"\0{path}\0{found.st_size}\0{found.st_mtime_ns}".encode())
    return "sha256:" + state.hexdigest()


def _code() -> Iterator[Path]:
    """Yield the files of this program, in order: Python, and the C that goes into packages."""
    for folder, pattern in ((Path(__file__).parent, "*.py"), (kernels_dir(), "*")):
        yield from sorted(path for path in folder.rglob(pattern) if path.is_file())


def _installed() -> Iterator[Path]:
    """Yield what changes when a Python package is installed: the metadata of all, in order."""
    for place in map(Path, sys.path):
        if place.is_dir():
            yield from sorted(path for path in place.iterdir() if path.suffix in _METADATA)
