"""Layout *cmsis-pack*: a software component with its description, in a zip with one form.

Source: Open-CMSIS-Pack specification 1.7, PACK.xsd. Without a date or an address to download from:
the same model gives the same pack.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from mlopsc.bundle.container import write_container
from mlopsc.package.layouts.parts import Parts

VENDOR = "mlopsc"
SCHEMA = "1.7.7"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_LOCATION = (
    "https://raw.githubusercontent.com/Open-CMSIS-Pack/Open-CMSIS-Pack-Spec/"
    f"v{SCHEMA}/schema/PACK.xsd"
)
_MAX_SUB = 32


def cmsis_pack(parts: Parts) -> dict[str, bytes]:
    """Return the pack and, for indexes, its description beside it."""
    name = parts.name
    files = {
        f"include/{name}.h": parts.header(),
        **{f"source/{file}": data for file, data in parts.sources().items()},
        **{f"selftest/{file}": text.encode() for file, text in parts.selftest.items()},
        "README.md": parts.readme("A CMSIS-Pack: select the component 'Machine Learning:Model'."),
        "LICENSES.md": parts.licences.encode(),
    }
    description = f"{VENDOR}.{name}.pdsc"
    members = {description: _description(parts, list(parts.sources())), **files}
    return {
        f"{VENDOR}.{name}.{parts.semantic_version}.pack": _zip(members),
        description: members[description],
    }


def _zip(members: dict[str, bytes]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="mlopsc-pack-") as folder:
        path = Path(folder) / "pack"
        write_container(path, {name: [data] for name, data in sorted(members.items())})
        return path.read_bytes()


def _description(parts: Parts, sources: list[str]) -> bytes:
    name, version = parts.name, parts.semantic_version
    ET.register_namespace("xs", _INSTANCE)
    root = ET.Element(
        "package",
        {"schemaVersion": SCHEMA, f"{{{_INSTANCE}}}noNamespaceSchemaLocation": _LOCATION},
    )
    for tag, text in (
        ("vendor", VENDOR),
        ("name", name),
        ("description", parts.about),
        ("url", ""),
        ("license", "LICENSES.md"),
    ):
        ET.SubElement(root, tag).text = text
    releases = ET.SubElement(root, "releases")
    ET.SubElement(releases, "release", version=version).text = f"Bundle {parts.bundle}"
    keywords = ET.SubElement(root, "keywords")
    for word in ("machine learning", "inference", VENDOR):
        ET.SubElement(keywords, "keyword").text = word
    core = _core(parts.target.compile.cpu)
    if core:
        condition = ET.SubElement(ET.SubElement(root, "conditions"), "condition", id="processor")
        ET.SubElement(condition, "description").text = f"What it was compiled for: {core}"
        ET.SubElement(condition, "require", Dcore=core)
    component = ET.SubElement(
        ET.SubElement(root, "components"),
        "component",
        {
            "Cvendor": VENDOR,
            "Cclass": "Machine Learning",
            "Cgroup": "Model",
            "Csub": name.lstrip("_")[:_MAX_SUB] or "model",
            "Cversion": version,
            **({"condition": "processor"} if core else {}),
        },
    )
    ET.SubElement(component, "description").text = parts.about
    listed = ET.SubElement(component, "files")
    for category, path, more in (
        ("doc", "README.md", {}),
        ("include", "include/", {}),
        ("header", f"include/{name}.h", {}),
        *(("sourceC", f"source/{file}", {}) for file in sources),
        *(
            (category, f"selftest/{file}", {"attr": "template", "select": "Test on the board"})
            for file, category in (("selftest.c", "sourceC"), ("selftest_vectors.h", "header"))
        ),
    ):
        ET.SubElement(listed, "file", {"category": category, "name": path, **more})
    ET.indent(root)
    written: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written + b"\n"


def _core(cpu: str) -> str:
    """Return the name of a processor in the specification, as ``Cortex-M0+``, or nothing."""
    match = re.fullmatch(r"cortex-m(\d+)(plus|p)?", cpu)
    if match is None:
        return ""
    return f"Cortex-M{match[1]}" + {None: "", "plus": "+", "p": "P"}[match[2]]
