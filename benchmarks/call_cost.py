"""What a call and a load cost beyond the kernels, on this machine.

Usage: ``python benchmarks/call_cost.py [--weights MIB]``. Times calls of a package whose model adds
two numbers, from C and from Python: what is left is the cost of the call. Times what sharing 32
tasks of a microsecond between two threads takes beyond 16 µs. Then loads a package with large
weights in a fresh process and shows what of it is in memory of its own (next to nothing) and what
is mapped from the file.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import tempfile
import timeit
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import helper, numpy_helper

import mlopsc
from mlopsc.cli.render import echo_table
from mlopsc.resources import kernels_dir
from mlopsc.targets import load_target
from mlopsc.toolchain import link_image

CALLS = 20_000  # per round
TIMER = """
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>
#include "one.h"
static _Alignas(ONE_ARENA_ALIGN) unsigned char arena[ONE_ARENA_BYTES + 1];
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;
}
static void work(void *const *args, int32_t begin, int32_t end) { /* one microsecond a task */
  (void)args;
  for (double stop = now() + (end - begin); now() < stop;) {
  }
}
int main(void) {
  float x = 1.0f, y = 0.0f;
  double call = 1e9, launch = 1e9;
  mlopsc_set_threads(2);
  for (int round = 0; round < 50; ++round) {
    double start = now();
    for (int i = 0; i < 20000; ++i) if (one_run(&x, &y, arena) != MLOPSC_OK) return 1;
    double end = now();
    if ((end - start) / 20000 < call) call = (end - start) / 20000;
    for (int i = 0; i < 200; ++i) {
      start = now();
      mlopsc_parallel(work, 0, 32, 1);
      end = now();
      if (end - start < launch) launch = end - start;
    }
  }
  printf("%.4f %.4f\\n", call, launch - 16);
  return y != 2.0f;
}
"""


def model_of(nodes: list[onnx.NodeProto], size: int, **weights: np.ndarray) -> onnx.ModelProto:
    """Return a model from ``x`` to ``y``, both float32[1, size]."""
    x, y = (helper.make_tensor_value_info(name, 1, [1, size]) for name in "xy")
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def build(model: onnx.ModelProto, name: str, folder: Path) -> Path:
    """Return the package of ``model`` for this machine."""
    onnx.save(model, folder / f"{name}.onnx")
    mlopsc.build(folder / f"{name}.onnx", "host", folder / name)
    return folder / name / "host"


def from_c(package: Path, folder: Path) -> tuple[float, float]:
    """Return the fewest microseconds of a call of ``one`` and of sharing tasks, beyond these."""
    (folder / "timer.c").write_text(TIMER)
    sources = ["timer.c", str(kernels_dir() / "runtime" / "mlopsc_pool.c")]
    flags = [f"-I{package / 'include'}", "-lm", "-lpthread"]
    library = str(package / "lib" / "libone.a")
    link_image(load_target("host"), [*sources, library], "timer", folder=folder, flags=flags)
    done = subprocess.run([str(folder / "timer")], capture_output=True, text=True, check=True)
    call, launch = map(float, done.stdout.split())
    return call, launch


def from_python(package: Path) -> float:
    """Return the fewest microseconds of a call of ``one`` from Python."""
    model = mlopsc.load(package)
    inputs = {"x": np.ones((1, 1), np.float32)}
    return min(timeit.repeat(lambda: model(inputs), number=CALLS, repeat=20)) / CALLS * 1e6


def memory_of_load(package: str) -> list[tuple[int, int]]:
    """Return own and file-mapped KiB of this process before a load, after it and after a call."""

    def resident() -> tuple[int, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["RssAnon"].split()[0]), int(found["RssFile"].split()[0])

    load = mlopsc.load  # imports what it needs
    figures = [resident()]
    model = load(package)
    figures.append(resident())
    model({s.name: np.zeros(s.shape, s.dtype) for s in model.inputs})
    figures.append(resident())
    return figures


@click.command()
@click.option("--weights", default=100, show_default=True, help="Of the large model, in MiB.")
def main(weights: int) -> None:
    """Print what calls and loads cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = build(model_of([helper.make_node("Add", ["x", "x"], ["y"])], 1), "one", folder)
        call, launch = from_c(one, folder)
        rows = [
            ["call from C", f"{call:.3f}"],
            ["call from Python", f"{from_python(one):.2f}"],
            ["sharing 32 tasks between two threads", f"{launch:.2f}"],
        ]
        echo_table("Cost of a call, fewest µs", ["what", "µs"], rows)
        size = int((weights * 2**18) ** 0.5)
        matrix = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
        large = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], size, w=matrix)
        package = build(large, "large", folder)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            before, loaded, called = pool.apply(memory_of_load, (str(package),))
        rows = [
            [what, *(f"{(now - then) / 1024:.1f}" for now, then in zip(at, before, strict=True))]
            for what, at in (("loaded", loaded), ("after a call", called))
        ]
        title = f"Memory of a package with {size * size * 4 / 2**20:.0f} MiB of weights, MiB more"
        echo_table(title, ["when", "own", "mapped from the file"], rows)


if __name__ == "__main__":
    main()
