"""The forms of packages that build systems of firmware take: by their rules, and built."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import firmware
import pytest
import yaml

import mlopsc
from mlopsc.cli.build import command
from mlopsc.package.layouts import LAYOUTS
from mlopsc.package.layouts.arduino import library_name
from mlopsc.package.layouts.cmsis_pack import _core
from mlopsc.package.layouts.parts import semantic
from mlopsc.schema.build_options import LAYOUT_NAMES

BOARD = "cortex-m4f"
SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"

# An Arduino core, as far as the sketch goes: a program of this machine.
ARDUINO_H = """\
#include <stdio.h>
struct Port {
  void begin(long) {}
  explicit operator bool() const { return true; }
  void write(char c) { putchar(c); }
};
extern Port Serial;
void setup();
void loop();
"""
# Zephyr's build system, as far as the module goes: what its documentation says of each function.
ZEPHYR_CMAKE = """\
set(CMAKE_C_STANDARD 11)
file(STRINGS ${APPLICATION_SOURCE_DIR}/prj.conf lines REGEX "=y$")
foreach(line IN LISTS lines)
  string(REPLACE "=y" "" option ${line})
  set(${option} y)
endforeach()
add_library(zephyr_interface INTERFACE)
target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_LIST_DIR}/include)
macro(zephyr_include_directories)
  foreach(folder ${ARGN})
    target_include_directories(zephyr_interface INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
  endforeach()
endmacro()
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC)
  target_link_libraries(${name} PUBLIC zephyr_interface)
  set_property(GLOBAL APPEND PROPERTY ZEPHYR_LIBS ${name})
endmacro()
macro(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endmacro()
enable_language(C)
foreach(module IN LISTS EXTRA_ZEPHYR_MODULES)
  file(STRINGS ${module}/zephyr/module.yml cmake REGEX "cmake:")
  string(REGEX REPLACE ".*cmake: *" "" folder "${cmake}")
  add_subdirectory(${module}/${folder} ${CMAKE_BINARY_DIR}/modules)
endforeach()
file(WRITE ${CMAKE_BINARY_DIR}/empty.c "")
add_executable(app ${CMAKE_BINARY_DIR}/empty.c)
get_property(libraries GLOBAL PROPERTY ZEPHYR_LIBS)
target_link_libraries(app PRIVATE zephyr_interface ${libraries})
"""


@pytest.fixture(scope="module")
def layouts(digits_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layouts of a package for a board."""
    folder = tmp_path_factory.mktemp("layouts")
    names = ("cmsis-pack", "zephyr", "arduino")
    mlopsc.build(digits_bundle, BOARD, folder, layouts=names)
    return folder / BOARD / "layouts"


def test_the_pack_has_what_its_description_lists(layouts: Path) -> None:
    """By the rules of PACK.xsd, version 1.7, for the elements that are used."""
    path = layouts / "cmsis-pack" / "mlopsc.digits.1.0.0.pack"
    with zipfile.ZipFile(path) as pack:
        assert pack.testzip() is None
        names = set(pack.namelist())
        described = pack.read("mlopsc.digits.pdsc")
        assert b"digits_run" in pack.read("include/digits.h")
    assert (path.parent / "mlopsc.digits.pdsc").read_bytes() == described
    root = ET.fromstring(described)  # noqa: S314 - our own
    assert root.tag == "package"
    assert root.get("schemaVersion") == "1.7.7"
    children = [child.tag for child in root]
    assert len(children) == len(set(children))
    assert {"vendor", "name", "description", "url", "releases"} <= set(children)
    for tag in ("vendor", "name"):
        assert re.fullmatch(r"[-_A-Za-z0-9]+", root.findtext(tag, ""))
    assert path.name == "{}.{}.{}.pack".format(
        root.findtext("vendor"), root.findtext("name"), root.find("releases/release").get("version")
    )
    (component,) = root.findall("components/component")
    for attribute in ("Cvendor", "Cclass", "Cgroup", "Csub"):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _-]{1,31}", component.get(attribute, ""))
    assert re.fullmatch(SEMANTIC, component.get("Cversion", ""))
    conditions = {c.get("id") for c in root.findall("conditions/condition")}
    assert component.get("condition") in conditions
    assert root.find("conditions/condition/require").get("Dcore") == "Cortex-M4"
    assert [c.tag for c in component] == ["description", "files"]
    listed = {f.get("name", ""): f.get("category") for f in component.findall("files/file")}
    assert set(listed.values()) == {"doc", "include", "header", "sourceC"}
    files = {name for name in listed if not name.endswith("/")} | {root.findtext("license", "")}
    assert files | {"mlopsc.digits.pdsc"} == names


def test_the_arduino_library_keeps_the_rules(layouts: Path) -> None:
    """Those of arduino-lint that apply to a library that is not in the index."""
    root = layouts / "arduino"
    lines = (root / "library.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    assert len(properties) == len(lines)
    assert set(properties) == {"name", "version", "author", "maintainer", "sentence", "paragraph",
                               "category", "url", "architectures", "includes"}  # fmt: skip
    assert all(properties.values())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", properties["name"])
    assert re.fullmatch(SEMANTIC, properties["version"])
    assert properties["category"] in ("Data Processing",)
    assert not properties["paragraph"].startswith(properties["sentence"])
    assert (root / "src" / properties["includes"]).is_file()
    sketches = [p for p in (root / "examples").iterdir() if p.is_dir()]
    assert sketches
    assert all((p / f"{p.name}.ino").is_file() for p in sketches)
    assert {p.name for p in root.iterdir()} == {
        "library.properties", "src", "examples", "README.md", "LICENSE",
    }  # fmt: skip


@pytest.mark.tool("gcc")
def test_the_sketch_runs(layouts: Path, tmp_path: Path) -> None:
    """Its C++ is compiled as Arduino does, with a core that is this machine."""
    library = layouts / "arduino"
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    sketch = library / "examples" / "digits"
    (tmp_path / "digits.ino.cpp").write_text(
        f'#include <Arduino.h>\n#line 1 "digits.ino"\n{(sketch / "digits.ino").read_text()}'
    )
    core = "#include <Arduino.h>\nPort Serial;\nint main() { setup(); loop(); return 0; }\n"
    (tmp_path / "core.cpp").write_text(core)
    objects: list[str | Path] = []
    for source in (tmp_path / "digits.ino.cpp", tmp_path / "core.cpp"):
        objects.append(source.with_suffix(".o"))
        firmware.run([*firmware.ZIG[:-1], "c++", "-std=gnu++11", "-fno-exceptions", "-fno-rtti",
                      "-Wall", "-Wextra", "-pedantic", "-Werror", "-fno-sanitize=all",
                      f"-I{tmp_path}", f"-I{library / 'src'}", "-c", source, "-o",
                      objects[-1]])  # fmt: skip
    c = [*sorted((library / "src").glob("*.c")), *sorted(sketch.glob("*.c"))]
    program = tmp_path / "sketch"
    firmware.run(["gcc", "-std=gnu11", "-Os", f"-I{library / 'src'}", f"-I{sketch}", *c, *objects,
                  "-lm", "-o", program])  # fmt: skip
    assert firmware.run([program]) == "PASS 10/10\n"


def test_the_zephyr_module_says_what_it_is(layouts: Path) -> None:
    root = layouts / "zephyr"
    module = yaml.safe_load((root / "zephyr" / "module.yml").read_text())
    assert module == {"name": "mlopsc_digits", "build": {"cmake": ".", "kconfig": "Kconfig"}}
    kconfig = (root / "Kconfig").read_text()
    (option,) = re.findall(r"^config (\w+)$", kconfig, re.MULTILINE)
    assert f"if(CONFIG_{option})" in (root / "CMakeLists.txt").read_text()
    sample = root / "samples" / "selftest"
    assert (sample / "prj.conf").read_text() == f"CONFIG_{option}=y\n"
    about = yaml.safe_load((sample / "sample.yaml").read_text())
    assert about["common"]["harness_config"]["regex"] == ["PASS 10/10"]
    assert list(about["tests"]) == ["mlopsc.digits.selftest"]


@pytest.mark.slow
@pytest.mark.tool("gcc", "make")
def test_the_zephyr_sample_builds_and_runs(layouts: Path, tmp_path: Path) -> None:
    """With a build system that knows the functions that Zephyr's documentation names."""
    cmake = pytest.importorskip("cmake")
    program = Path(cmake.CMAKE_BIN_DIR) / "cmake"
    sample = layouts / "zephyr" / "samples" / "selftest"
    config = tmp_path / "zephyr"
    (config / "include" / "zephyr").mkdir(parents=True)
    (config / "include" / "zephyr" / "kernel.h").write_text(
        "#include <stdio.h>\n#define printk printf\n"
    )
    (config / "ZephyrConfig.cmake").write_text(
        "set(APPLICATION_SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR})\n" + ZEPHYR_CMAKE
    )
    build = tmp_path / "build"
    firmware.run([program, "-S", sample, "-B", build, "-G", "Unix Makefiles",
                  f"-DZephyr_DIR={config}"])  # fmt: skip
    firmware.run([program, "--build", build])
    assert firmware.run([build / "app"]) == "PASS 10/10\n"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0", "0.0.0"),
        ("1.2", "1.2.0"),
        ("v1.02.3", "1.2.3"),
        ("1.2.3-rc.1", "1.2.3-rc.1"),
        ("1.2.3-01", "0.0.0"),
        ("2024-05-01", "0.0.0"),
        ("abc", "0.0.0"),
        ("", "0.0.0"),
    ],
)
def test_versions_become_semantic(version: str, expected: str) -> None:
    assert semantic(version) == expected
    assert re.fullmatch(SEMANTIC, expected)


def test_the_command_offers_every_layout() -> None:
    (option,) = [p for p in command.params if p.name == "layouts"]
    assert tuple(option.type.choices) == LAYOUT_NAMES == tuple(LAYOUTS)


def test_names_are_those_of_the_formats() -> None:
    names = ("digits", "_x", "arduino_net", "3d", "_", "n" * 80)
    assert [library_name(n) for n in names] == [
        "digits", "x", "model_arduino_net", "model_3d", "model", "n" * 63,
    ]  # fmt: skip
    cores = [_core(cpu) for cpu in ("cortex-m0plus", "cortex-m35p", "cortex-m7", "generic-rv32")]
    assert cores == ["Cortex-M0+", "Cortex-M35P", "Cortex-M7", ""]
