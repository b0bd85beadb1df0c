"""Describes the machine this process runs on, in the terms of a target file.

x86-64 machines are described by their psABI level (v2, v3 or v4) and the extensions beyond it that
schedules use, so that one kind of machine always gives the same description and the same package.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlopsc.errors import MissingToolError

# psABI levels (x86-64 psABI, section 3.1.1): the flags of /proc/cpuinfo that each one adds.
_LEVELS: tuple[tuple[str, frozenset[str]], ...] = (
    ("x86-64-v2", frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"})),
    ("x86-64-v3", frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})),
    (
        "x86-64-v4",
        frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ),
)
_X86_EXTENSIONS = {
    "avx512_vnni": "+avx512vnni", "avx512vbmi": "+avx512vbmi", "avx_vnni": "+avxvnni",
}  # fmt: skip
_ARM_EXTENSIONS = {"asimddp": "+dotprod", "i8mm": "+i8mm", "asimdhp": "+fullfp16"}


# What /proc/cpuinfo says of a processor that does not change while it runs.
_FACTS = frozenset(
    {
        "CPU architecture", "CPU implementer", "CPU part", "CPU revision", "CPU variant",
        "Features", "cpu family", "flags", "isa", "model", "model name", "stepping", "vendor_id",
    }
)  # fmt: skip


@cache
def cpu_facts() -> Mapping[str, str]:
    """Return what the system says of the running processor; empty where it cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    facts: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in _FACTS:
            facts.setdefault(key.strip(), value.strip())
    return facts


def cpu_flags() -> frozenset[str]:
    """Return the feature flags of the running processor; empty where they cannot be read."""
    facts = cpu_facts()
    return frozenset(f"{facts.get('flags', '')} {facts.get('Features', '')}".split())


def detect_host() -> dict[str, Any]:
    """Return the tables of a target file that depend on the machine.

    Raises:
        MissingToolError: The machine is of a kind that no target describes yet.
    """
    machine = platform.machine().lower()
    system = platform.system()
    if system == "Linux" and machine in {"x86_64", "amd64"}:
        return _linux_x86()
    if system == "Linux" and machine in {"aarch64", "arm64"}:
        return _linux_arm()
    if system == "Darwin" and machine == "arm64":
        return _macos_arm()
    raise MissingToolError(
        f"no 'host' target for {system} on {machine}; expected Linux on x86-64 or AArch64, "
        "or macOS on Apple silicon",
        hint="name a target instead of 'host': 'mlopsc targets' lists them",
    )


def _linux_x86() -> dict[str, Any]:
    flags = cpu_flags()
    level, vector_bits, registers = "x86-64", 128, 16
    for name, needed in _LEVELS:
        if not needed <= flags:
            break
        level = name
    if level == "x86-64-v3":
        vector_bits = 256
    elif level == "x86-64-v4":
        vector_bits, registers = 512, 32
    used = {"avx_vnni"} if level == "x86-64-v3" else set(_X86_EXTENSIONS)
    features = (
        [llvm for flag, llvm in sorted(_X86_EXTENSIONS.items()) if flag in flags & used]
        if level in ("x86-64-v3", "x86-64-v4")
        else []
    )
    vnni = "avx512_vnni" if level == "x86-64-v4" else "avx_vnni"
    zig_cpu = level.replace("-", "_") + "".join(features)
    return {
        "compile": {
            "triple": "x86_64-unknown-linux-gnu",
            "cpu": level,
            "features": features,
        },
        "hardware": {
            "pointer_bits": 64,
            "vector_bits": vector_bits,
            "registers": registers,
            "fma": "fma" in flags,
            "dot": "vnni" if features and vnni in flags else "madd",
            **_caches(),
        },
        "toolchain": _linux_toolchain("x86_64", zig_cpu),
    }


def _linux_arm() -> dict[str, Any]:
    flags = cpu_flags()
    features = [llvm for flag, llvm in sorted(_ARM_EXTENSIONS.items()) if flag in flags]
    return {
        "compile": {
            "triple": "aarch64-unknown-linux-gnu",
            "cpu": "generic",
            "features": ["+neon", *features],
        },
        "hardware": {
            "pointer_bits": 64,
            "vector_bits": 128,
            "registers": 32,
            "fma": True,
            "dot": "sdot" if "asimddp" in flags else "none",
            **_caches(),
        },
        "toolchain": _linux_toolchain("aarch64", "generic" + "".join(features)),
    }


def _macos_arm() -> dict[str, Any]:
    return {
        "compile": {"triple": "arm64-apple-macos-none", "cpu": "apple-m1", "features": []},
        "hardware": {
            "pointer_bits": 64,
            "vector_bits": 128,
            "registers": 32,
            "fma": True,
            "dot": "sdot",
            "cores": os.cpu_count() or 1,
            "l1_bytes": 65536,
            "l2_bytes": 4 << 20,
        },
        "toolchain": {
            "target": "aarch64-macos",
            "cpu": "apple_m1",
            "system": "macos",
            "shared": "dylib",
        },
    }


def _linux_toolchain(machine: str, cpu: str) -> dict[str, Any]:
    libc = "gnu.2.17" if platform.libc_ver()[0] == "glibc" else "musl"
    return {"target": f"{machine}-linux-{libc}", "cpu": cpu, "system": "linux", "shared": "so"}


def _caches() -> dict[str, int]:
    sizes = {"1": 32768, "2": 524288}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level = (index / "level").read_text().strip()
            kind = (index / "type").read_text().strip()
            size = (index / "size").read_text().strip()
        except OSError:
            continue
        if kind != "Instruction" and level in sizes and size.endswith("K"):
            sizes[level] = int(size[:-1]) * 1024
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "l1_bytes": sizes["1"], "l2_bytes": sizes["2"]}
