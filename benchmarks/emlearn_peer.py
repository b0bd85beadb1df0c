"""What emlearn makes of a forest, compiled as packages are and run in the same emulator.

Every image holds one function that takes features and writes a probability for each class and
returns the likeliest one; ``forest.py`` has the table.
"""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
from elftools.elf.elffile import ELFFile

from mlopsc.runners import emulator
from mlopsc.runners.counter import Counter
from mlopsc.schema.target import Target
from mlopsc.targets import load_target
from mlopsc.toolchain import compile_object, link_image

Array = np.ndarray[Any, Any]
# Method, type of features, and bits of a leaf: 0 is hard voting. What emlearn offers.
FORMS = [
    form
    for form in product(("loadable", "inline"), ("int16_t", "float"), (0, 8))
    if form[:2] != ("loadable", "float")
]
_TYPES = {"int16_t": np.int16, "float": np.float32}
# Headers that emlearn includes and does not need on a machine without a C library.
_HEADERS = {"stdlib.h": "", "stdio.h": "", "math.h": '#define NAN __builtin_nanf("")\n'}
_RUN = """
int32_t run(const {dtype} *features, float *scores) {{
  peer_predict_proba(features, {features}, scores, {classes});
  int32_t best = 0;
  for (int32_t i = 1; i < {classes}; ++i) best = scores[i] > scores[best] ? i : best;
  return best;
}}
"""


@dataclass(frozen=True)
class Figures:
    """One way to run a forest.

    Attributes:
        form: Its name.
        flash: Bytes of code, constants and first content of data, as linked.
        ram: Bytes of inputs, outputs, data, arena and stack.
        instructions: Of an inference, the mean over the samples.
        agree: Share of the samples whose class is scikit-learn's.
        error: Largest difference of a probability to scikit-learn's.
    """

    form: str
    flash: int
    ram: int
    instructions: float
    agree: float
    error: float


def judged(forest: Any, samples: Array, labels: Array, scores: Array) -> dict[str, float]:
    """Compare with scikit-learn: ``agree`` and ``error`` of ``Figures``."""
    expected = forest.predict_proba(samples)
    return {
        "agree": float((labels == forest.predict(samples)).mean()),
        "error": float(np.abs(scores - expected).max()),
    }


def measure_emlearn(forest: Any, samples: Array, target_name: str, only: str) -> list[Figures]:
    """Return the figures of every form in whose name ``only`` is."""
    try:
        import emlearn
    except ImportError as error:
        raise click.ClickException("emlearn is not there: pip install -e '.[bench]'") from error
    include, found = Path(emlearn.__file__).parent, []
    for method, dtype, bits in FORMS:
        name = f"emlearn {method} {dtype} {'soft' if bits else 'hard'}"
        if only in name:
            made = emlearn.convert(forest, method=method, dtype=dtype, leaf_bits=bits)
            code = made.save(name="peer", include_proba=True)
            sizes = {"dtype": dtype, "features": samples.shape[1], "classes": forest.n_classes_}
            target = load_target(target_name)
            image = _link(code + _RUN.format(**sizes), include, target)
            found.append(_measure(name, image, target, forest, samples.astype(_TYPES[dtype])))
    return found


def _link(code: str, include: Path, target: Target) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for header, text in _HEADERS.items():
            (folder / header).write_text(text, encoding="utf-8")
        (folder / "peer.c").write_text(code, encoding="utf-8")
        flags = ["-Wno-everything"]
        made = compile_object(
            target, "peer.c", folder=folder, include=[".", str(include)], flags=flags
        )
        flags = ["-static", "-Wl,--gc-sections", "-Wl,-e,run", "-Wl,-u,run"]
        triple = emulator._machine(target).triple
        link_image(target, [made], "image.elf", folder=folder, flags=flags, triple=triple)
        return (folder / "image.elf").read_bytes()


def _measure(name: str, image: bytes, target: Target, forest: Any, samples: Array) -> Figures:
    run = emulator._Emulator(emulator._machine(target), image)
    function, size = run.symbols.addresses["run"] & ~1, 4 * forest.n_classes_
    run.paint_stack()
    labels, scores, instructions = [], [], 0
    for sample in samples:
        x, y = run.buffer(sample.tobytes(), 4), run.buffer(bytes(size), 4)
        counter = Counter(run.unicorn, run.code(set()), run.symbols)
        labels.append(forest.classes_[run.call(function, (x, y))])
        instructions += sum(counter.finish()[0].values())
        scores.append(np.frombuffer(run.read(y, size), np.float32))
    parts = [s for s in ELFFile(io.BytesIO(image)).iter_sections() if s["sh_flags"] & 2]
    flash = sum(s["sh_size"] for s in parts if s["sh_type"] == "SHT_PROGBITS")
    data = sum(s["sh_size"] for s in parts if s["sh_flags"] & 1)
    return Figures(
        form=name,
        flash=flash,
        ram=samples[0].nbytes + size + data + run.stack_depth(),
        instructions=instructions / len(samples),
        **judged(forest, samples, np.array(labels), np.array(scores)),
    )
