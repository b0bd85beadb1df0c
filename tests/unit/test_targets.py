"""Targets are data: every file is valid, and an invalid one says which field is wrong."""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mlopsc import host, targets
from mlopsc.errors import MissingToolError, TargetDefinitionError, UnknownTargetError
from mlopsc.resources import targets_dir
from mlopsc.schema.target import Target
from mlopsc.targets import load_target, target_names

VALID = """
name = "mine"
family = "cpu"
description = "A machine of mine"

[compile]
generator = "llvm"
triple = "x86_64-unknown-linux-gnu"
cpu = "x86-64"

[hardware]
pointer_bits = 64
vector_bits = 128
registers = 16
fma = false

[toolchain]
target = "x86_64-linux-gnu.2.17"
cpu = "x86_64"
system = "linux"
shared = "so"

[run]
runners = ["native"]

[conformance]
float32 = { relative_to_max = 1e-5 }
"""


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", target_names())
def test_bundled_target_loads_and_survives_json(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert Target.model_validate_json(target.to_json()) == target


def test_every_toml_file_is_offered_as_a_target() -> None:
    files = sorted(path.stem for path in targets_dir().rglob("*.toml"))
    assert files == target_names()
    assert len(files) == len(set(files))


@pytest.mark.parametrize("name", target_names())
def test_family_is_the_folder_of_the_file(name: str) -> None:
    (path,) = targets_dir().glob(f"*/{name}.toml")
    assert load_target(name).family == path.parent.name


def test_extends_merges_tables_and_replaces_values() -> None:
    base, derived = load_target("cortex-m7"), load_target("cortex-m4f")
    assert derived.compile.cpu == "cortex-m4"
    assert derived.compile.triple == base.compile.triple
    assert derived.hardware.l1_bytes == 0 != base.hardware.l1_bytes
    assert derived.hardware.registers == base.hardware.registers
    assert derived.toolchain.flags == base.toolchain.flags
    assert derived.run.qemu.program == base.run.qemu.program
    assert derived.run.qemu.machine != base.run.qemu.machine


def test_own_file_may_extend_a_bundled_target(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "mine"\nextends = "cortex-m7"\n[limits]\nflash_bytes = 65536\n')
    target, base = load_target(path), load_target("cortex-m7")
    assert target.limits.flash_bytes == 65536
    assert target.limits.ram_bytes is None
    assert target.compile == base.compile


def test_lists_are_replaced_and_not_joined(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "mine"\nextends = "cortex-m7"\n[run]\nrunners = ["unicorn"]\n')
    assert load_target(path).run.runners == ("unicorn",)


def test_extends_works_over_several_files(tmp_path: Path) -> None:
    first = write(tmp_path, 'name = "first"\nextends = "cortex-m4f"\n', "first.toml")
    second = write(tmp_path, f'name = "second"\nextends = "{first}"\nversion = 1\n', "second.toml")
    with pytest.raises(TargetDefinitionError, match="version"):
        load_target(second)
    third = write(tmp_path, f'name = "third"\nextends = "{first}"\n', "third.toml")
    assert load_target(third).compile.cpu == "cortex-m4"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("cortex-m8", "cortex-m7"), ("hots", "host"), ("x86_64-v3", "x86-64-v3"), ("wasm", "wasm32")],
)
def test_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownTargetError) as caught:
        load_target(name)
    assert f"'{name}'" in caught.value.message
    assert nearest in caught.value.message
    assert "mlopsc targets" in caught.value.hint


def test_name_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(UnknownTargetError) as caught:
        load_target("qqqqqqqq")
    assert all(name in caught.value.message for name in target_names())


@pytest.mark.parametrize(
    "name", ["", "*", "../cpu/host", "cpu/host", "host.tom", "ho?t", "/etc/passwd", "host\n"]
)
def test_name_cannot_reach_other_files(name: str) -> None:
    with pytest.raises(UnknownTargetError):
        load_target(name)


def test_missing_file_and_folder_are_unknown_targets(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for name in ("missing.toml", "folder.toml"):
        with pytest.raises(UnknownTargetError, match=name):
            load_target(str(tmp_path / name))


def test_the_template_of_these_tests_is_valid(tmp_path: Path) -> None:
    assert load_target(write(tmp_path, VALID)).description == "A machine of mine"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('generator = "llvm"', 'generator = "java"', "compile.generator"),
        ("x86_64-unknown-linux-gnu", "x86_64-linux-gnu", "compile.triple"),
        ("x86_64-unknown-linux-gnu", "thumbv7em-none-eabihf", "compile.triple"),
        ("x86_64-unknown-linux-gnu", "", "compile.triple"),
        ("pointer_bits = 64", "pointer_bits = 48", "hardware.pointer_bits"),
        ("vector_bits = 128", "vector_bits = 100", "hardware.vector_bits"),
        ("vector_bits = 128", "vector_bits = -128", "hardware.vector_bits"),
        ("vector_bits = 128", "vector_bits = 192", "hardware.vector_bits"),  # no power of two
        ("registers = 16", "registers = 0", "hardware.registers"),
        ("registers = 16", 'registers = "many"', "hardware.registers"),
        ("registers = 16", "", "hardware.registers"),
        ("fma = false", "fma = false\ncaches = 3", "hardware.caches"),
        ('family = "cpu"', 'family = "npu"', "family"),
        ('family = "cpu"', 'family = "cpu"\ncolour = "red"', "colour"),
        ('name = "mine"', 'name = "Mine"', "name"),
        ('name = "mine"', 'name = "../mine"', "name"),
        ('name = "mine"', "name = 5", "name"),
        ("[compile]", "[compiler]", "compile"),
        ('system = "linux"', 'system = "plan9"', "toolchain.system"),
        ('shared = "so"', 'shared = "dll"', "toolchain.shared"),
        ('runners = ["native"]', "runners = []", "run.runners"),
        ('runners = ["native"]', 'runners = ["docker"]', "run.runners.0"),
        ("relative_to_max = 1e-5", "relative_to_max = 0.5", "conformance.float32"),
        ("relative_to_max = 1e-5", "relative_to_max = -1", "conformance.float32"),
        ("relative_to_max = 1e-5", "relative_to_max = nan", "conformance.float32"),
        ("relative_to_max = 1e-5", "absolute = 1e-5", "conformance.float32"),
        ("float32 = {", "float33 = {", "conformance.float33"),
        ("[run]", "[limits]\nflash_bytes = 0\n[run]", "limits.flash_bytes"),
        ("[run]", "[limits]\nram_bytes = 1.5\n[run]", "limits.ram_bytes"),
    ],
)
def test_wrong_field_is_named_with_its_file(tmp_path: Path, old: str, new: str, field: str) -> None:
    assert old in VALID
    with pytest.raises(TargetDefinitionError) as caught:
        load_target(write(tmp_path, VALID.replace(old, new, 1)))
    assert "mine.toml" in caught.value.message
    assert re.search(rf"\b{re.escape(field)}\b", caught.value.message), caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["name = ", "[compile", "name = 1\nname = 2", "\x00"])
def test_text_that_is_not_toml(tmp_path: Path, text: str) -> None:
    with pytest.raises(TargetDefinitionError, match=r"mine\.toml"):
        load_target(write(tmp_path, text))


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'name = "\xff\xfe"\n')
    with pytest.raises(TargetDefinitionError, match=r"mine\.toml"):
        load_target(str(tmp_path / "mine.toml"))


def test_name_inside_must_be_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(TargetDefinitionError) as caught:
        load_target(write(tmp_path, VALID, "other.toml"))
    assert "other.toml" in caught.value.message
    assert "'mine'" in caught.value.message


def test_file_that_extends_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "mine"\nextends = "{path}"\n')
    with pytest.raises(TargetDefinitionError, match="itself"):
        load_target(str(path))


def test_files_that_extend_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(f'name = "first"\nextends = "{second}"\n')
    second.write_text(f'name = "second"\nextends = "{first}"\n')
    with pytest.raises(TargetDefinitionError, match="itself"):
        load_target(str(first))


def test_base_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownTargetError, match="cortex-m99"):
        load_target(write(tmp_path, 'name = "mine"\nextends = "cortex-m99"\n'))


def test_type_without_tolerance_must_be_equal_bit_for_bit() -> None:
    target = load_target("cortex-m7")
    assert 0 < target.tolerance("float32") <= 1e-3
    assert target.tolerance("int8") == target.tolerance("bool") == 0.0


def test_host_describes_this_machine() -> None:
    target = load_target("host")
    facts = target.hardware
    assert facts.pointer_bits == (64 if sys.maxsize > 1 << 32 else 32)
    assert facts.cores >= 1
    assert facts.l1_bytes >= 8192
    assert facts.l2_bytes >= facts.l1_bytes
    assert facts.registers in (16, 32)
    machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
    assert target.compile.triple.split("-")[0].replace("arm64", "aarch64") == machine
    assert target.toolchain.target.split("-")[0] == machine
    if machine == "x86_64":
        needed = {128: "sse2", 256: "avx2", 512: "avx512f"}[facts.vector_bits]
        assert needed in host.cpu_flags()
    assert load_target("host") == target


def detected(monkeypatch: pytest.MonkeyPatch, machine: str, flags: set[str]) -> dict[str, Any]:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset(flags))
    return host.detect_host()


V2 = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
V3 = V2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("flags", "cpu", "vector_bits", "registers"),
    [
        (set(), "x86-64", 128, 16),
        (V2, "x86-64-v2", 128, 16),
        (V3 - {"movbe"}, "x86-64-v2", 128, 16),
        (V3, "x86-64-v3", 256, 16),
        (V4 - {"avx512vl"}, "x86-64-v3", 256, 16),
        (V4 - {"popcnt"}, "x86-64", 128, 16),  # levels build on each other
        (V4, "x86-64-v4", 512, 32),
    ],
)
def test_host_takes_the_highest_complete_level(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], cpu: str, vector_bits: int, registers: int
) -> None:
    found = detected(monkeypatch, "x86_64", flags)
    assert found["compile"]["cpu"] == cpu
    assert found["toolchain"]["cpu"].startswith(cpu.replace("-", "_"))
    assert found["hardware"]["vector_bits"] == vector_bits
    assert found["hardware"]["registers"] == registers
    assert found["hardware"]["fma"] == ("fma" in flags)


def test_host_names_extensions_to_both_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = detected(monkeypatch, "x86_64", V4 | {"avx512_vnni"})
    assert found["compile"]["features"] == ["+avx512vnni"]
    assert "+avx512vnni" in found["toolchain"]["cpu"]


@pytest.mark.parametrize(
    ("machine", "flags", "dot"),
    [
        ("x86_64", V2, "madd"),
        ("x86_64", V3, "madd"),
        ("x86_64", V3 | {"avx_vnni"}, "vnni"),
        ("x86_64", V2 | {"avx_vnni"}, "madd"),  # not without the vectors that it works on
        ("x86_64", V4, "madd"),
        ("x86_64", V4 | {"avx_vnni"}, "madd"),  # which has no registers of 512 bits
        ("x86_64", V4 | {"avx512_vnni"}, "vnni"),
        ("aarch64", {"asimd"}, "none"),
        ("aarch64", {"asimd", "asimddp"}, "sdot"),
    ],
)
def test_host_knows_how_it_multiplies_integers(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: set[str], dot: str
) -> None:
    assert detected(monkeypatch, machine, flags)["hardware"]["dot"] == dot


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_detected_host_completes_the_target_file(
    monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    found = detected(monkeypatch, machine, V3)
    monkeypatch.setattr(targets, "detect_host", lambda: found)
    target = load_target("host")
    assert target.compile.triple.startswith(machine)
    assert json.loads(target.to_json())["toolchain"]["target"].startswith(machine)


def test_unknown_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingToolError) as caught:
        detected(monkeypatch, "vax", set())
    assert "vax" in caught.value.message
    assert "mlopsc targets" in caught.value.hint
