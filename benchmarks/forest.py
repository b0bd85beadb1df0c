"""A random forest on a microcontroller, beside what emlearn makes of the same forest.

Usage: ``python benchmarks/forest.py [--data digits|sensors] [--trees N] [--depth N]
[--target cortex-m4f] [--samples N] [--json FILE]``. scikit-learn trains the forest, with a
fixed seed, on integers of at most 16 bits, which is what emlearn's default compares: ``digits`` are
the 64 pixels of scikit-learn's digits, doubled, so that emlearn's integer splits are exact;
``sensors`` are 16 readings of 12 bits. mlopsc imports the estimator; emlearn generates C in every
combination of its method, its type of features and its two ways to vote. All are compiled by one
compiler with the same flags, linked with what they need alone, and run on the same samples in the
same emulator: from features to a probability for each class and the likeliest class. ``hard``
voting counts the trees that favour a class, which is not what scikit-learn's forests compute;
``soft`` adds up the shares of classes in the leaves, in emlearn with 8 bits each.

Flash is code and constants as linked, RAM is inputs, outputs, arena, writable data and the deepest
stack, instructions are the mean over the samples; all are exact. Needs emlearn and scikit-learn:
``pip install -e '.[bench,sklearn]'``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from emlearn_peer import Figures, judged, measure_emlearn

import mlopsc
from mlopsc import fitting
from mlopsc.abi import read_descriptor
from mlopsc.cli.render import echo_table
from mlopsc.package_reader import LoadedPackage, read_package
from mlopsc.runners import emulator
from mlopsc.runners.counter import Counter

SEED = 0
Array = np.ndarray[Any, Any]


def digits() -> tuple[Array, Array]:
    """Return the pixels of scikit-learn's digits, doubled, and the digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x * 2, y


def sensors() -> tuple[Array, Array]:
    """Return 16 readings of 12 bits and one of four classes."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        4000, 16, n_informative=10, n_classes=4, n_clusters_per_class=3, random_state=SEED
    )
    return np.round((x - x.min()) / (x.max() - x.min()) * 4095), y


DATA: dict[str, Callable[[], tuple[Array, Array]]] = {"digits": digits, "sensors": sensors}


def measure_mlopsc(forest: Any, samples: Array, target: str, folder: Path) -> Figures:
    """Return the figures of a package; refuses what does not conform."""
    bundle = folder / "forest.mlb"
    mlopsc.import_model(forest, bundle, example=samples[:1], cache=False)
    mlopsc.build(bundle, target, folder, cache=False)
    report = mlopsc.conform(folder / target)
    if report.verdict != "pass":
        raise click.ClickException(f"the forest does not conform on {target}: {report.outputs}")
    found = fitting.fit(folder / target)
    instructions, labels, scores = run_package(read_package(folder / target), samples)
    return Figures(
        form="mlopsc",
        flash=found.flash.total,
        ram=found.ram.total,
        instructions=instructions,
        **judged(forest, samples, labels, scores),
    )


def run_package(package: LoadedPackage, samples: Array) -> tuple[float, Array, Array]:
    """Return instructions per sample, labels and probabilities."""
    machine = emulator._machine(package.info.target)
    with tempfile.TemporaryDirectory() as name:
        image = emulator._link(package, machine, Path(name))
    run = emulator._Emulator(machine, image)
    address = run.call(run.symbols.addresses[f"{package.info.name}_model"], ())
    model = read_descriptor(run.read, address, pointer_bits=machine.pointer_bits)
    labels, scores, instructions = [], [], 0
    for sample in samples:
        counter = Counter(run.unicorn, run.code(set()), run.symbols)
        outputs = emulator._run(run, model, {model.inputs[0].name: sample[None]})
        instructions += sum(counter.finish()[0].values())
        label, score = sorted(outputs.values(), key=lambda found: found.ndim)
        labels.append(label[0])
        scores.append(score[0])
    return instructions / len(samples), np.array(labels), np.array(scores)


def show(found: list[Figures], title: str) -> None:
    """Print the table; ratios are of the peer's figure to ours."""
    ours = found[0]
    rows = [
        [
            f.form,
            f"{f.flash:,}",
            f"{f.flash / ours.flash:.2f}x",
            f"{f.ram:,}",
            f"{f.instructions:,.0f}",
            f"{f.instructions / ours.instructions:.2f}x",
            f"{f.agree:.1%}",
            f"{f.error:.1e}",
        ]
        for f in found
    ]
    columns = ["form", "flash", "to mlopsc", "RAM", "instructions", "to mlopsc",
               "classes as scikit-learn", "largest error"]  # fmt: skip
    echo_table(title, columns, rows)
    for name in ("flash", "instructions"):
        least = min(found[1:], key=lambda f: float(getattr(f, name)))
        ratio = getattr(least, name) / getattr(ours, name)
        click.echo(f"{name}: the least of emlearn, {least.form}, is {ratio:.2f}x that of mlopsc")


@click.command()
@click.option("--data", type=click.Choice(list(DATA)), default="digits", show_default=True)
@click.option("--trees", default=100, show_default=True)
@click.option("--depth", default=10, show_default=True)
@click.option("--target", default="cortex-m4f", show_default=True, help="One that unicorn runs.")
@click.option("--samples", default=100, show_default=True, help="How many are run.")
@click.option("--only", default="", help="Only forms of emlearn in whose name this is.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(
    data: str, trees: int, depth: int, target: str, samples: int, only: str, output: Path | None
) -> None:
    """Print a table."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    x, y = DATA[data]()
    train, test, classes, truth = train_test_split(x.astype(np.float32), y, random_state=SEED)
    forest = RandomForestClassifier(trees, max_depth=depth, random_state=SEED).fit(train, classes)
    click.echo(f"{data}: accuracy {forest.score(test, truth):.1%} on {len(test)} samples")
    with tempfile.TemporaryDirectory() as name:
        found = [measure_mlopsc(forest, test[:samples], target, Path(name))]
    found += measure_emlearn(forest, test[:samples], target, only)
    show(found, f"{trees} trees of depth {depth} on {target}, {data}")
    if output is not None:
        rows = [asdict(figures) for figures in found]
        output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
