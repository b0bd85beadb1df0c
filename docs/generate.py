"""Writes the generated parts of the documentation from the code they describe.

``python docs/generate.py`` rewrites them. ``python docs/generate.py --check`` writes nothing: it
names the files that differ and exits 1. A generated part of a page lies between
``<!-- generated: NAME -->`` and ``<!-- end -->``; the JSON schemas are whole files. Nothing here
depends on the machine: what is detected is shown as such.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
import onnx
from click.testing import CliRunner
from pydantic import BaseModel

from mlopsc import errors
from mlopsc.cli import INTERRUPTED, cli
from mlopsc.core_ops import CORE_OPS, EXPANDED_IF, EXPANDED_OPS
from mlopsc.dtypes import DTYPES
from mlopsc.resources import targets_dir
from mlopsc.schema.attestation import Statement
from mlopsc.schema.bundle import Manifest
from mlopsc.schema.conformance import ConformanceReport
from mlopsc.schema.fingerprint import Fingerprint
from mlopsc.schema.fit import FitReport
from mlopsc.schema.lineage import Lineage
from mlopsc.schema.log import LogEntry, Revocation
from mlopsc.schema.package import Package
from mlopsc.schema.program import Program
from mlopsc.schema.quantize import QuantizeReport
from mlopsc.schema.steps import Step, Steps
from mlopsc.schema.target import Target
from mlopsc.steps import steps_example
from mlopsc.targets import load_target, target_names

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))  # this file is also loaded by its path
import coverage_tables  # noqa: E402
import frontend_tables  # noqa: E402

WIDTH = 80  # of the help texts
ONNX_OPSET = 26  # whose names of operator inputs are shown
_PART = r"(<!-- generated: {name} -->\n).*?(<!-- end -->\n)"


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def error_classes() -> list[type[errors.MlopscError]]:
    """Return the kinds of error by exit code."""
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.MlopscError)
    ]
    return sorted((e for e in found if e is not errors.MlopscError), key=lambda e: e.exit_code)


def error_table() -> str:
    """Return the exit codes."""
    rows = [
        ["0", "", "Success."],
        ["1", "", "A defect in mlopsc; `MLOPSC_TRACEBACK=1` prints where."],
        ["2", "", "The command line is wrong; the usage is printed."],
        *(
            [str(kind.exit_code), f"`{kind.__name__}`", inspect.cleandoc(kind.__doc__ or "")]
            for kind in error_classes()
        ),
        [str(INTERRUPTED), "", "Interrupted (Ctrl-C or SIGTERM)."],
    ]
    return table(["Exit code", "Name", "Meaning"], rows)


def core_op_lists() -> str:
    """Return the operators: those without conditions, those with, those that are rewritten."""

    def names(ops: list[str]) -> str:
        return ", ".join(f"`{op}`" for op in ops) + "\n"

    def constants(op: str) -> str:
        inputs = onnx.defs.get_schema(op, ONNX_OPSET, "").inputs
        return ", ".join(
            f"`{inputs[i].name}`" for i in CORE_OPS[op].constant_inputs if i < len(inputs)
        )

    of_onnx = [op for op in CORE_OPS if "::" not in op]
    plain = sorted(op for op in of_onnx if not CORE_OPS[op].constant_inputs)
    ruled = sorted(op for op, rule in CORE_OPS.items() if rule.constant_inputs)
    several = sorted(op for op, rule in CORE_OPS.items() if not rule.single_output)
    return "\n".join(
        [
            f"{len(of_onnx)} operators of the domain `ai.onnx`. Without conditions:\n",
            names(plain),
            "With inputs that must be constants, where they are given:\n",
            table(["Operator", "Constant inputs"], [[f"`{op}`", constants(op)] for op in ruled]),
            "Of every node only the first output may be used, except of "
            + ", ".join(f"`{op}`" for op in several)
            + ".\n",
            "Not of float64: "
            + ", ".join(f"`{op}`" for op, rule in sorted(CORE_OPS.items()) if rule.single_precision)
            + ".\n",
            "Operators of other domains:\n",
            names(sorted(op for op in CORE_OPS if "::" in op)),
            "Accepted at import and rewritten in terms of the above:\n",
            names(sorted(op for op in EXPANDED_OPS if op not in EXPANDED_IF)),
            "Core operators that are rewritten in some cases:\n",
            table(
                ["Operator", "Rewritten if"],
                [[f"`{op}`", condition] for op, condition in sorted(EXPANDED_IF.items())],
            ),
        ]
    )


def dtype_table() -> str:
    """Return the element types."""
    rows = [
        [f"`{d.name}`", str(d.onnx), f"`{d.c}`", f"`{d.c_macro}`", str(d.itemsize)]
        for d in sorted(DTYPES.values(), key=lambda d: d.onnx)
    ]
    return table(["Name", "ONNX code", "C type", "Macro", "Bytes"], rows)


def _targets(*, boards: bool = False) -> list[tuple[dict[str, Any], Target | None]]:
    """Return each bundled target's file, and the complete target unless it is detected.

    Boards are the targets with limits.
    """
    found = []
    for name in target_names():
        path = next(targets_dir().glob(f"*/{name}.toml"))
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        if ("limits" in raw) == boards:
            found.append((raw, None if raw.get("detect") else load_target(name)))
    return found


def target_table() -> str:
    """Return what the bundled targets are."""
    rows = []
    for raw, target in _targets():
        if target is None:
            name, generator = raw["name"], raw["compile"]["generator"]
            facts = ["detected", "detected", raw["run"]["runners"], raw["description"]]
        else:
            name, generator = target.name, target.compile.generator
            bits = target.hardware.vector_bits
            facts = [
                f"`{target.compile.triple}`",
                f"{bits} bits" if bits else "none",
                target.run.runners,
                target.description,
            ]
        triple, vectors, runners, description = facts
        rows.append(
            [f"`{name}`", description, triple, vectors, generator, ", ".join(map(str, runners))]
        )
    return table(["Target", "Machine", "Triple", "Vectors", "Kernels", "Runners"], rows)


def target_summary() -> str:
    """Return the short table of the README."""
    rows = [
        [
            f"`{raw['name']}`",
            target.description if target else raw["description"],
            target.compile.generator if target else raw["compile"]["generator"],
            ", ".join(target.run.runners if target else raw["run"]["runners"]),
        ]
        for raw, target in _targets()
    ]
    return table(["Target", "Machine", "Kernels", "Runners"], rows)


def board_table() -> str:
    """Return what the bundled boards are."""
    rows = []
    for raw, target in _targets(boards=True):
        if target is None:
            continue
        clock, limits = target.hardware.clock_hz or 0, target.limits
        sizes = [f"{(size or 0) / 1024:,g} KiB" for size in (limits.flash_bytes, limits.ram_bytes)]
        board = target.description.split(":")[0]
        rows.append(
            [f"`{target.name}`", board, f"`{raw['extends']}`", f"{clock / 1e6:g} MHz", *sizes]
        )
    return table(["Target", "Board", "Extends", "Clock", "Flash", "RAM"], rows)


def layers() -> str:
    """Return the layering contract of ``pyproject.toml``, the highest layer first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [c for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    return "```text\n" + "\n".join(contract["layers"]) + "\n```\n"


def step_reference() -> str:
    """Return every step with its parameters."""
    parts = []
    for name, field in Step.model_fields.items():
        kind = next((k for k in get_args(field.annotation) if _is_model(k)), None)
        if kind is None:  # 'input' and 'output'
            continue
        text, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:\n")
        rows = []
        for entry in re.split(r"\n(?=    \w)", attributes):
            parameter, separator, meaning = entry.strip().partition(": ")
            if separator:
                rows.append([f"`{parameter}`", *_parameter(kind, parameter), _plain(meaning)])
        listed = table(["Parameter", "Type", "Default", "Meaning"], rows) if rows else ""
        parts.append(f"### {name}\n\n{text}\n" + (f"\n{listed}" if listed else ""))
    return "\n".join(parts)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _parameter(kind: type[BaseModel], name: str) -> list[str]:
    """Return type and default of a parameter, as they are written in YAML."""
    schema = kind.model_json_schema()
    found = schema["properties"][name]
    choices = [c for c in found.get("anyOf", [found]) if c.get("type") != "null"]
    words = " or ".join(dict.fromkeys(map(_type_words, choices)))
    if name in schema.get("required", []):
        return [words, "required"]
    default = found.get("default")
    return [words, "" if default is None else f"`{json.dumps(default)}`"]


def _type_words(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        shown = [f"`{value}`" for value in schema["enum"]]
        return ", ".join(shown) if len(shown) < 8 else "element type"
    if schema.get("type") == "array":
        items = schema.get("items", {})
        return "list of " + " or ".join(_type_words(c) for c in items.get("anyOf", [items]))
    if schema.get("pattern") == "^[A-Z]$":
        return "letter"
    return {"boolean": "`true`, `false`"}.get(schema["type"], schema["type"])


def example_of_steps() -> str:
    """Return the steps file that people begin with."""
    return f"```yaml\n{steps_example()}```\n"


def command_help() -> str:
    """Return the help of the command and of every verb."""
    verbs = [[], *([verb] for verb in cli.list_commands(click.Context(cli)))]
    verbs += [["targets", "show"], ["data", "fingerprint"], ["data", "diff"], ["cache", "clear"]]
    parts = []
    for verb in verbs:
        result = CliRunner().invoke(
            cli, [*verb, "--help"], prog_name="mlopsc", terminal_width=WIDTH
        )
        parts.append(f"## {' '.join(['mlopsc', *verb])}\n\n```text\n{result.output.strip()}\n```\n")
    return "\n".join(parts)


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"targets": target_summary, "boards": board_table},
    "docs/architecture.md": {"layers": layers},
    "docs/cli.md": {"help": command_help},
    "docs/core-ops.md": {"operators": core_op_lists, "element types": dtype_table},
    "docs/coverage.md": coverage_tables.PARTS,
    "docs/frontends.md": frontend_tables.PARTS,
    "docs/errors.md": {"exit codes": error_table},
    "docs/preprocessing.md": {"example": example_of_steps, "steps": step_reference},
    "docs/targets.md": {"targets": target_table, "boards": board_table},
}

SCHEMAS: dict[str, type[BaseModel]] = {
    "conformance": ConformanceReport,
    "lineage": Lineage,
    "log": LogEntry,
    "fingerprint": Fingerprint,
    "fit": FitReport,
    "manifest": Manifest,
    "package": Package,
    "program": Program,
    "quantize": QuantizeReport,
    "revocation": Revocation,
    "statement": Statement,
    "steps": Steps,
    "target": Target,
}


def schema_text(model: type[BaseModel]) -> str:
    """Return the JSON schema of ``model``, docstrings of attributes moved to the properties."""
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        _move_descriptions(part)
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | schema, indent=2, ensure_ascii=False) + "\n"


def _move_descriptions(schema: dict[str, Any]) -> None:
    text, _, attributes = schema.get("description", "").partition("\n\nAttributes:\n")
    if not text:
        return
    schema["description"] = _plain(text)
    for entry in re.split(r"\n(?=    \w)", attributes):
        name, separator, meaning = entry.strip().partition(": ")
        if separator and name in schema["properties"]:
            schema["properties"][name]["description"] = _plain(meaning)


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def page_text(page: str) -> str:
    """Return ``page`` with its generated parts brought up to date.

    Raises:
        SystemExit: A part has no place in the page.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, generate in PARTS[page].items():
        pattern = re.compile(_PART.format(name=re.escape(name)), re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{page}: no '<!-- generated: {name} -->' ... '<!-- end -->'")
        made = generate()
        text = pattern.sub(lambda found, made=made: f"{found[1]}\n{made}\n{found[2]}", text)
    return text


def expected() -> dict[Path, str]:
    """Return every file with generated parts and what it must hold."""
    files = {ROOT / page: page_text(page) for page in PARTS}
    for name, model in SCHEMAS.items():
        files[ROOT / "docs" / "schemas" / f"{name}.schema.json"] = schema_text(model)
    return files


def stale() -> list[str]:
    """Return the files that differ from what the code says, relative to the root."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in expected().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main() -> None:
    """Write the generated parts, or check them with ``--check``."""
    if sys.argv[1:] == ["--check"]:
        differing = stale()
        for name in differing:
            print(f"{name} is out of date; run: python docs/generate.py", file=sys.stderr)
        sys.exit(1 if differing else 0)
    if sys.argv[1:]:
        sys.exit("usage: python docs/generate.py [--check]")
    for path, text in expected().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
