"""Layout *arduino*: a library in format 1.5, with a sketch that runs the test vectors.

Source: Arduino's "Library specification"; names and values keep the rules of arduino-lint. Who
publishes the library puts own names and an address into ``library.properties``.
"""

from __future__ import annotations

import re

from mlopsc.package.layouts.parts import Parts

MAX_NAME = 63
_SKETCH = """\
// Runs {name} on its test vectors and prints PASS, or what is wrong.
#include <{name}.h>

extern "C" {{
int mlopsc_selftest(void);
void mlopsc_putc(char c) {{ Serial.write(c); }}
}}

void setup() {{
  Serial.begin(115200);
  while (!Serial) {{
  }}
  mlopsc_selftest();
}}

void loop() {{}}
"""


def arduino(parts: Parts) -> dict[str, bytes]:
    """Return the library; the sketch is named after it."""
    name, title = parts.name, library_name(parts.name)
    properties = {
        "name": title,
        "version": parts.semantic_version,
        "author": "mlopsc",
        "maintainer": "mlopsc",
        "sentence": f"{parts.about}.",
        "paragraph": "Generated C without dynamic memory; inputs, outputs and scratch memory are "
        f"the sketch's. Bundle {parts.bundle}.",
        "category": "Data Processing",
        "url": "https://example.com/",
        "architectures": "*",
        "includes": f"{name}.h",
    }
    # A sketch has its own main: the test must not bring another.
    test = dict(parts.selftest)
    test["selftest.c"] = f"#define SELFTEST_NO_MAIN\n{test['selftest.c']}"
    how = "An Arduino library: Sketch, Include Library, Add .ZIP Library, of this folder as a zip."
    return {
        "library.properties": "".join(f"{k}={v}\n" for k, v in properties.items()).encode(),
        f"src/{name}.h": parts.header(),
        **{f"src/{file}": data for file, data in parts.sources().items()},
        f"examples/{name}/{name}.ino": _SKETCH.format(name=name).encode(),
        **{f"examples/{name}/{file}": text.encode() for file, text in test.items()},
        "README.md": parts.readme(how),
        "LICENSE": parts.licences.encode(),
    }


def library_name(name: str) -> str:
    """Return a name that Arduino's tools take: it begins with a letter, and not with theirs."""
    plain = name.strip("_") or "model"
    if not plain[0].isalpha() or re.match("arduino", plain, re.IGNORECASE):
        plain = f"model_{plain}"
    return plain[:MAX_NAME]
