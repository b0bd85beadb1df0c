"""The matrix of frontends: every model imports, agrees with its framework, builds and conforms.

Usage: ``python benchmarks/frontends.py [--framework NAME]... [--match REGEX] [--json FILE]``. The
models are those of ``tests/frontends``, made anew with fixed seeds; those of a framework run in one
process. *Difference* is the largest of all outputs between the bundle's graphs and the original in
its own framework, relative to the largest value of its output. With ``--json FILE`` what was
measured is merged into FILE, which the tables of ``docs/frontends.md`` are generated from. Exits
with 1 if a model fails that is not known to.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import click

from mlopsc.cli.render import echo_table, error_text

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / part) for part in ("frontends", "")]
REASON = 160  # characters of one that are kept


@click.command()
@click.option("--framework", "frameworks", multiple=True, help="Only this one; repeat.")
@click.option("--match", default="", help="Only models whose name this expression finds.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Where to keep figures.")
def main(frameworks: tuple[str, ...], match: str, output: Path | None) -> None:
    """Run the matrix and print it."""
    from matrix import all_cases

    chosen = [
        case
        for case in all_cases()
        if (not frameworks or case.framework in frameworks) and re.search(match, case.name)
    ]
    records: dict[str, dict[str, Any]] = {}
    with Processes() as processes:
        for case in chosen:
            start = time.monotonic()
            records[case.name] = record = processes.measure(case.framework, case.name)
            text = record["failed"] or record["skipped"] or error_text(record["difference"])
            click.echo(f"{case.name}: {text} ({time.monotonic() - start:.0f} s)", err=True)
            if output is not None:
                _keep(records, output)
    rows = [
        [
            name,
            r["framework"],
            r["family"],
            r["skipped"] or r["failed"] or error_text(r["difference"]),
            r.get("converter", ""),
            ", ".join(
                f"{target} {verdict}" + (f" ({count:,} instr.)" if count else "")
                for target, verdict, count in r.get("targets", [])
            ),
        ]
        for name, r in records.items()
    ]
    columns = ["model", "framework", "family", "difference", "converter", "targets"]
    echo_table("Frontends", columns, rows)
    good = sum(1 for r in records.values() if not r["failed"] and not r["skipped"])
    click.echo(f"{good} of {len(records)} import, agree, build and conform")
    sys.exit(1 if any(r["failed"] and not r["known"] for r in records.values()) else 0)


def _keep(records: dict[str, dict[str, Any]], output: Path) -> None:
    """Merge what was measured into ``output``; models that are no more go."""
    from matrix import all_cases

    known = {case.name for case in all_cases()}
    kept = json.loads(output.read_text()) if output.is_file() else {}
    kept |= {name: record for name, record in records.items() if not record["skipped"]}
    kept = {name: record for name, record in kept.items() if name in known}
    output.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


class Processes:
    """A process for each framework, one at a time; a new one where one has crashed."""

    def __init__(self) -> None:
        """Start none yet."""
        self._framework = ""
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Processes:
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._end()

    def measure(self, framework: str, name: str) -> dict[str, Any]:
        """Return what became of one model of ``framework``, as JSON."""
        if self._pool is None or framework != self._framework:
            self._end()
            context = multiprocessing.get_context("spawn")
            self._pool, self._framework = ProcessPoolExecutor(1, mp_context=context), framework
        try:
            return self._pool.submit(measure, name).result()
        except BrokenProcessPool:
            self._end()
            return {**_about(name), "failed": "crashed"}

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None


def _about(name: str) -> dict[str, Any]:
    from matrix import all_cases

    case = next(case for case in all_cases() if case.name == name)
    about = {"framework": case.framework, "family": case.family, "known": bool(case.fails)}
    return {**about, "failed": "", "skipped": ""}


def measure(name: str) -> dict[str, Any]:
    """Return what became of one model, as JSON."""
    from matrix import all_cases, missing, run_case

    case = next(case for case in all_cases() if case.name == name)
    record = _about(name)
    if absent := missing(case):
        return {**record, "skipped": absent}
    try:
        with tempfile.TemporaryDirectory(prefix="mlopsc-frontends-") as folder:
            result = run_case(case, Path(folder))
    except Exception as error:  # the verdict on this model
        text = " ".join(str(error).split())
        return {**record, "failed": case.fails or f"{type(error).__name__}: {text}"[:REASON]}
    bad = [t for t, verdict in result.verdicts.items() if verdict != "pass"]
    reason = result.check.reason or (f"does not conform on {', '.join(bad)}" if bad else "")
    return {
        **record,
        "failed": reason,
        "version": result.check.framework,
        "converter": result.check.converter,
        "difference": result.check.relative_to_max,
        "tolerance": result.check.tolerance,
        "preprocessing": list(result.check.preprocessing),
        "operators": list(result.operators),
        "targets": [
            [target, verdict, result.instructions.get(target)]
            for target, verdict in result.verdicts.items()
        ],
    }


if __name__ == "__main__":
    main()
