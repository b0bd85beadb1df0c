"""The tables of ``docs/frontends.md``: what the matrix of frontends recorded, by framework.

``benchmarks/frontends.py --json docs/frontends.json`` writes the record.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from mlopsc.frontends import FRONTENDS, ONNX, frontend

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "frontends.json"


@cache
def _record() -> dict[str, dict[str, Any]]:
    record: dict[str, dict[str, Any]] = json.loads(RECORD.read_text())
    return record


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def frontends() -> str:
    """Return the frontends and what installs them."""
    rows = []
    for name in FRONTENDS:
        module = frontend(name)
        extra = f"`pip install 'mlopsc[{module.EXTRA}]'`" if module.EXTRA else "nothing further"
        page = "" if name == ONNX else f" ([page](frontends/{name}.md))"
        rows.append([module.TITLE + page, extra, ", ".join(f"`{m}`" for m in module.MODULES)])
    return _table(["Framework", "Installed by", "Python modules it uses"], rows)


def families() -> str:
    """Return the families of models and the operators that were tested, by framework."""
    by_framework: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in _record().values():
        by_framework[entry["framework"]].append(entry)
    rows = []
    for name in FRONTENDS:
        good = [e for e in by_framework[name] if not e["failed"]]
        if not good:
            continue
        operators = sorted({op for e in good for op in e["operators"]})
        families = sorted({e["family"] for e in good})
        rows.append([
            frontend(name).TITLE,
            str(len(good)),
            "; ".join(families),
            ", ".join(f"`{op}`" for op in operators),
        ])  # fmt: skip
    return _table(["Framework", "Models", "Families", "Operators in the bundles"], rows)


def models() -> str:
    """Return every model of the matrix with what was measured."""
    rows = []
    for name, entry in sorted(_record().items(), key=lambda item: (item[1]["framework"], item[0])):
        if entry["failed"]:
            rows.append([f"`{name}`", entry["family"], entry["failed"], "", ""])
            continue
        difference = "0" if entry["difference"] == 0 else f"{entry['difference']:.1e}"
        targets = ", ".join(
            target + (f" ({count:,})" if count else "") for target, _, count in entry["targets"]
        )
        rows.append([f"`{name}`", entry["family"], difference, entry["version"], targets])
    columns = ["Model", "Family", "Difference", "Compared with", "Conforms on (instructions)"]
    return _table(columns, rows)


def total() -> str:
    """Return how many models there are."""
    good = sum(1 for entry in _record().values() if not entry["failed"])
    return f"{good} of {len(_record())} models import, agree, build and conform.\n"


PARTS = {"frontends": frontends, "families": families, "models": models, "total": total}
