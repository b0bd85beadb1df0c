"""Memory that importing, signing and verifying a model with gigabytes of weights takes.

Usage: ``python benchmarks/large_model.py [--gib 8] [--folder DIR] [--json FILE]``. Makes a chain of
matrix products whose weights, all different, lie in one sparse file, imports, signs and verifies it
with the command line, and samples the memory of all processes every 20 ms: *anonymous* memory is
what they take for themselves, *file* memory are mapped pages that the page cache holds anyway,
*resident* is the most that the largest process had of both. Linux only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click
from onnx import TensorProto, helper, save

from mlopsc.cli.render import echo_table

SIDE = 8192  # 512 MiB each
COLUMNS = ("anonymous", "file", "resident")


def make_model(folder: Path, gib: float, *, side: int = SIDE) -> Path:
    """Write a model of ``gib`` GiB of weights; the file of weights is sparse."""
    bytes_each = side * 2 * side * 4
    count = max(2, round(gib * (1 << 30) / bytes_each))
    weights = []
    with (folder / "weights.bin").open("wb") as file:
        for number in range(count):
            file.seek(number * bytes_each)
            file.write((number + 1).to_bytes(4, "little"))  # no two weights are the same
            tensor = TensorProto(
                name=f"w{number}",
                data_type=TensorProto.FLOAT,
                dims=[side, 2 * side] if number % 2 == 0 else [2 * side, side],
                data_location=TensorProto.EXTERNAL,
            )
            for key, value in (
                ("location", "weights.bin"),
                ("offset", str(number * bytes_each)),
                ("length", str(bytes_each)),
            ):
                tensor.external_data.add(key=key, value=value)
            weights.append(tensor)
        file.truncate(count * bytes_each)
    nodes = [
        helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"product{i}")
        for i in range(count)
    ]
    result = side if count % 2 == 0 else 2 * side
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, side])],
        [helper.make_tensor_value_info(f"x{count}", TensorProto.FLOAT, [1, result])],
        weights,
    )
    path = folder / "chain.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), path)
    return path


def processes_below(pid: int) -> list[int]:
    """Return ``pid`` and all its descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:  # it has just ended
            continue
    return found


def memory_of(pid: int) -> tuple[int, int, int]:
    """Return anonymous and file memory, and the most that was resident so far, in bytes."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0, 0
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    anonymous, files, most = (
        int(fields.get(k, "0 kB").split()[0]) << 10 for k in ("RssAnon", "RssFile", "VmHWM")
    )
    return anonymous, files, most


def watch(command: list[str], environment: Mapping[str, str] | None = None) -> dict[str, float]:
    """Run ``command``; return seconds and peaks of memory in bytes.

    ``anonymous`` and ``file`` memory are those of all its processes together, ``resident`` is that
    of the largest.
    """
    start, anonymous, files, resident = time.monotonic(), 0, 0, 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        while process.poll() is None:
            found = [memory_of(pid) for pid in processes_below(process.pid)]
            anonymous = max(anonymous, sum(a for a, _, _ in found))
            files = max(files, sum(f for _, f, _ in found))
            resident = max(resident, *(r for _, _, r in found))
            time.sleep(0.02)
    if process.returncode != 0:
        raise click.ClickException(f"{command} failed with status {process.returncode}")
    return {
        "seconds": time.monotonic() - start,
        "anonymous": anonymous,
        "file": files,
        "resident": resident,
    }


def mib(count: float) -> str:
    """Render bytes as MiB."""
    return f"{count / (1 << 20):.0f}"


def run(work: Path, *arguments: str | Path) -> dict[str, float]:
    """Run ``mlopsc`` and return what it took; what it logs goes with ``work``."""
    environment = {**os.environ, "MLOPSC_LOG_DIR": str(work / "log")}
    return watch([sys.executable, "-m", "mlopsc", *map(str, arguments)], environment)


@click.command()
@click.option("--gib", default=8.0, show_default=True, help="GiB of weights.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where; needs twice the size.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def main(gib: float, folder: Path | None, output: Path | None) -> None:
    """Measure one import, one signature and one verification."""
    with tempfile.TemporaryDirectory(prefix="mlopsc-large-", dir=folder) as name:
        work = Path(name)
        model, bundle, key = make_model(work, gib), work / "chain.mlb", work / "key"
        run(work, "keygen", "-o", key, "--no-password")
        figures = run(work, "import", model, "-o", bundle, "--no-cache")
        steps = {
            "import": figures,
            "sign": run(work, "sign", bundle, "--key", key),
            "verify": run(work, "verify", bundle, "--key", f"{key}.pub"),
        }
        sizes = {
            "weights": (work / "weights.bin").stat().st_size,
            "bundle": bundle.stat().st_size,
        }
    rows = [
        [step, f"{found['seconds']:.0f}", *(mib(found[k]) for k in COLUMNS)]
        for step, found in steps.items()
    ]
    title = f"{mib(sizes['weights'])} MiB of weights, a bundle of {mib(sizes['bundle'])} MiB"
    echo_table(title, ["", "s", *(f"{column}, MiB" for column in COLUMNS)], rows)
    if output is not None:
        output.write_text(json.dumps({**sizes, **steps}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
