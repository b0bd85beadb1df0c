"""Layout *zephyr*: a module that west or ``EXTRA_ZEPHYR_MODULES`` adds to a build.

Source: Zephyr documentation, "Modules (External projects)".
"""

from __future__ import annotations

from mlopsc.package.layouts.parts import Parts

_CMAKE = """\
if(CONFIG_{option})
  zephyr_include_directories(include)
  zephyr_library_named({library})
  zephyr_library_sources(
{sources}
  )
endif()
"""
_KCONFIG = """\
config {option}
    bool "Model {name}"
    help
      {about}.
"""
_SAMPLE_CMAKE = """\
cmake_minimum_required(VERSION 3.20.0)
list(APPEND EXTRA_ZEPHYR_MODULES ${{CMAKE_CURRENT_SOURCE_DIR}}/../..)
find_package(Zephyr REQUIRED HINTS $ENV{{ZEPHYR_BASE}})
project({name}_selftest C)
target_sources(app PRIVATE src/print.c src/selftest.c)
"""
_PRINT = """\
/* Where the test prints: Zephyr's console. */
#include <zephyr/kernel.h>

void mlopsc_putc(char c);

void mlopsc_putc(char c) { printk("%c", c); }
"""
_SAMPLE_YAML = """\
sample:
  name: {name} selftest
common:
  tags: mlopsc
  harness: console
  harness_config:
    type: one_line
    regex:
      - "PASS {count}/{count}"
tests:
  mlopsc.{name}.selftest:
    build_only: false
"""


def zephyr(parts: Parts) -> dict[str, bytes]:
    """Return the module, with the self-test as its sample."""
    name = parts.name
    option = f"MLOPSC_{name.upper()}"
    words = {"name": name, "option": option, "library": f"mlopsc_{name}", "about": parts.about}
    sources = "\n".join(f"    src/{file}" for file in parts.sources())
    vectors = parts.selftest["selftest_vectors.h"]
    count = vectors.split("#define SELFTEST_VECTORS ")[1].split("u\n")[0]
    texts = {
        "zephyr/module.yml": f"name: mlopsc_{name}\nbuild:\n  cmake: .\n  kconfig: Kconfig\n",
        "CMakeLists.txt": _CMAKE.format(**words, sources=sources),
        "Kconfig": _KCONFIG.format(**words),
        "samples/selftest/CMakeLists.txt": _SAMPLE_CMAKE.format(**words),
        "samples/selftest/prj.conf": f"CONFIG_{option}=y\n",
        "samples/selftest/sample.yaml": _SAMPLE_YAML.format(**words, count=count),
        "samples/selftest/src/print.c": _PRINT,
        **{f"samples/selftest/src/{file}": text for file, text in parts.selftest.items()},
    }
    how = (
        "A Zephyr module: name this folder in `EXTRA_ZEPHYR_MODULES` or in a west manifest, and "
        f"set `CONFIG_{option}=y`. `samples/selftest` runs the test vectors."
    )
    return {
        **{path: text.encode() for path, text in texts.items()},
        f"include/{name}.h": parts.header(),
        **{f"src/{file}": data for file, data in parts.sources().items()},
        "README.md": parts.readme(how),
        "LICENSES.md": parts.licences.encode(),
    }
