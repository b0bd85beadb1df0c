"""Long fuzzing by hand.

Usage: ``python tests/fuzz/run.py mutants --count 10000 [--first 0]`` imports mutants of valid
models, ``python tests/fuzz/run.py graphs --count 2000`` compiles random graphs for this machine,
``python tests/fuzz/run.py exports --count 1000`` imports mutants of the files of every framework
that is installed. Prints every finding with what makes it again, and a summary; exits with 1 if
there is a finding.
"""

from __future__ import annotations

import collections
import re
import sys
import tempfile
import time
from pathlib import Path

import click

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]


@click.group()
def main() -> None:
    """Fuzz."""


@main.command()
@click.option("--count", default=10_000, show_default=True)
@click.option("--first", default=0, show_default=True, help="Number of the first mutant.")
def mutants(count: int, first: int) -> None:
    """Import mutants of valid models."""
    from mutants import Judge, mutant

    kinds: collections.Counter[str] = collections.Counter()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mlopsc-fuzz-") as folder:
        judge = Judge(Path(folder))
        for seed in range(first, first + count):
            outcome = judge.judge(mutant(seed))
            kinds[outcome.kind] += 1
            kinds["compared"] += outcome.compared
            if outcome.kind not in ("imported", "refused"):
                click.echo(f"mutant {seed}: {outcome.kind}: {outcome.text}")
            if (seed - first) % 500 == 499:
                click.echo(f"{seed + 1}: {dict(kinds)}, {time.monotonic() - start:.0f} s")
        judge.close()
    click.echo(f"{dict(kinds)}, {time.monotonic() - start:.0f} s")
    sys.exit(1 if kinds["fault"] else 0)


@main.command()
@click.option("--count", default=2_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def graphs(count: int, seed: int) -> None:
    """Compile random graphs and compare with the reference."""
    from random_graphs import check_graphs

    start = time.monotonic()
    figures, findings = check_graphs(count, seed)
    click.echo(f"{dict(figures)}, {len(findings)} findings, {time.monotonic() - start:.0f} s")
    sys.exit(1 if findings else 0)


@main.command()
@click.option("--count", default=1_000, show_default=True, help="Of all formats together.")
@click.option("--first", default=0, show_default=True, help="Number of the first mutant.")
@click.option("--match", default="", help="Only formats whose name this expression finds.")
def exports(count: int, first: int, match: str) -> None:
    """Import mutants of framework files."""
    from exports import format_of, formats, judge_of, mutant

    chosen = [case for case in formats() if re.search(match, case.name)]
    total: collections.Counter[str] = collections.Counter()
    for case in chosen:
        kinds: collections.Counter[str] = collections.Counter()
        start = time.monotonic()
        base = format_of(case)
        with judge_of(case.framework) as judge:
            whole = judge.judge(base.files, base)
            if whole.kind != "imported":
                click.echo(f"{case.name} itself: {whole.kind}: {whole.text}")
                total["fault"] += 1
            for seed in range(first, first + -(-count // len(chosen))):
                outcome = judge.judge(mutant(base, seed), base)
                kinds[outcome.kind] += 1
                if outcome.kind not in ("imported", "refused"):
                    click.echo(f"{case.name} {seed}: {outcome.kind}: {outcome.text}")
        total += kinds
        click.echo(f"{case.name} ({base.source}): {dict(kinds)}, {time.monotonic() - start:.0f} s")
    click.echo(f"{dict(total)} of {sum(total.values())}")
    sys.exit(1 if total["fault"] else 0)


if __name__ == "__main__":
    main()
