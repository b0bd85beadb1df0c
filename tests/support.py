"""What tests share that is not a fixture: the command line, models that must conform, trees of
files, damaged packages."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import models
import numpy as np
import onnx
import pytest

import mlopsc
from mlopsc import zygote
from mlopsc.bundle import load_graph, read_bundle
from mlopsc.cli import main
from mlopsc.errors import MlopscError
from mlopsc.host import cpu_flags
from mlopsc.schema.common import canonical_json
from mlopsc.schema.package import Package
from mlopsc.targets import load_target, target_names

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_MODELS = REPOSITORY.parent / "shared" / "models"
X86_WITH_AVX2 = pytest.param(
    "x86-64-v3",
    marks=pytest.mark.skipif("avx2" not in cpu_flags(), reason="needs a processor with AVX2"),
)
# One of each kind of vectors.
VECTOR_TARGETS = (
    "host",
    X86_WITH_AVX2,
    "aarch64-generic",
    "wasm32-simd",
    pytest.param("riscv64-gcv", marks=[pytest.mark.tool("qemu-riscv64"), pytest.mark.slow]),
)
# All but most microcontrollers, which are tested with small models (test_edge.py), and processors
# that differ from others in products of integers alone (test_integer_forms.py).
CORE_TARGETS = tuple(
    name
    for name in target_names()
    if name in ("host", "cortex-m4f", "cortex-m7")
    or (
        load_target(name).family != "edge"
        and load_target(name).hardware.dot not in ("vnni", "sdot")
    )
)
PACKAGE_TARGETS = ("host", "cortex-m7", "wasm32-simd")  # what the example is always built for
HANG_S = 180  # how long a command may take before a test calls it stuck


def quick_or_slow(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Return a test's parameters: those in ``quick`` run by default, the others in the full run."""
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


# Read when an interpreter starts or a library is loaded.
_START_VARIABLES = ("PYTHON", "LD_", "LC_", "LANG")


def run_cli(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``mlopsc`` as a user does, in a process of its own.

    It is a fork of this one, whose modules and zygote it uses: starting an interpreter takes longer
    than most commands. Where that would make a difference, it is a new one.

    Args:
        arguments: Of the command.
        cwd: Where it runs.
        env: Variables to set besides the inherited ones.
        before: Called in the new process before the command starts; makes it a new interpreter.
    """
    starts = any(name.startswith(_START_VARIABLES) for name in env or {})
    if before or starts or not hasattr(os, "pidfd_open"):
        return _start_cli([str(a) for a in arguments], cwd, env, before)
    return _fork_cli([str(a) for a in arguments], cwd, env)


def _start_cli(
    arguments: Sequence[str],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    before: Callable[[], None] | None,
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlopsc", *arguments]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=before,
    )
    try:
        stdout, stderr = process.communicate(timeout=HANG_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _fork_cli(
    arguments: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    shared = zygote._Zygote.current()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            zygote._Zygote._current = shared
            _become_cli(arguments, cwd, env, (out.fileno(), err.fileno()))
        ended = os.pidfd_open(child)
        try:
            hangs = not select.select([ended], [], [], HANG_S)[0]
        finally:
            os.close(ended)
        if hangs:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if hangs:
            raise subprocess.TimeoutExpired(arguments, HANG_S)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(["mlopsc", *arguments], status, *texts)


def _become_cli(
    arguments: Sequence[str],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    streams: tuple[int, int],
) -> NoReturn:
    """Make this forked process one of the command line, and end it."""
    status = 70
    try:
        os.setsid()
        for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), *streams)):
            os.dup2(stream, number)
        sys.stdin = os.fdopen(0)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", encoding="utf-8") for n in (1, 2))
        os.chdir(cwd or Path.cwd())
        os.environ.update(env or {})
        sys.argv = ["mlopsc", *arguments]
        try:
            main()
        except SystemExit as leave:
            status = int(leave.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def build_conforming(model: onnx.ModelProto, target: str, folder: Path) -> Package:
    """Build a model with vectors for one target, check that it conforms and return the package."""
    models.save(model, folder / "net.onnx")
    packages = mlopsc.build(folder / "net.onnx", target, folder, generator="llvm")
    report = mlopsc.conform(folder / target)
    assert report.verdict == "pass", report.outputs
    return packages[target]


def raw_weights(bundle: Path) -> int:
    """Return the bytes of weights and biases that a quantised bundle holds."""
    total = 0
    for stage in read_bundle(bundle).stages:
        for value in load_graph(stage).graph.initializers.values():
            assert value.const_value is not None
            array = np.asarray(value.const_value.numpy())
            bias = array.ndim == 1 and array.dtype == np.int32 and array.any()
            if bias or (array.ndim >= 2 and array.itemsize == 1):
                total += array.nbytes
    return total


def check_refused(
    result: subprocess.CompletedProcess[str], kind: type[MlopscError], *mentions: str | Path
) -> None:
    """Check that a command failed as ``kind`` and said what, and what to do, once and clearly."""
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == kind.exit_code, (result.returncode, result.stderr)
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("mlopsc: error: ")]
    assert len(errors) == 1, result.stderr
    message = errors[0].removeprefix("mlopsc: error: ")
    assert result.stderr.count(message) == 1, f"said twice: {result.stderr}"
    hints = [line.removeprefix("  next: ") for line in lines if line.startswith("  next: ")]
    check_words(message, " ".join(hints), *mentions)


def check_words(message: str, hint: str, *mentions: str | Path) -> None:
    """Check that an error names the values, speaks of no internals and says what to do."""
    words = f"{message} {hint}"
    for mention in mentions:
        assert str(mention) in words, (mention, words)
    assert " in mlopsc." not in message, f"an unexpected exception: {message}"
    assert "\n" not in message or message.startswith("zig "), f"several lines: {message}"
    assert hint or "expected" in message, f"does not say what to do: {message}"


def tree(folder: Path) -> dict[str, str]:
    """Return every path below ``folder`` with what it is: folder, link or digest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Check that the block leaves every file below ``folder`` as it was, and no new one."""
    before = tree(folder)
    yield
    assert tree(folder) == before


def copy_package(package: Path, folder: Path) -> Path:
    """Return a copy of ``package`` in ``folder`` that a test may damage."""
    copy = folder / package.name
    shutil.copytree(package, copy)
    (copy / "conformance.json").unlink(missing_ok=True)
    return copy


def redigest(package: Path) -> None:
    """Make ``model.json`` agree with the files as they are, so that only running can tell."""
    path = package / "model.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    for entry in info["files"]:
        data = (package / entry["path"]).read_bytes()
        entry["digest"] = "sha256:" + hashlib.sha256(data).hexdigest()
        entry["size"] = len(data)
    path.write_text(canonical_json(info), encoding="utf-8")


def shipped_library(package: Path) -> Path:
    """Return the library that conformance runs: the loadable one if there is one."""
    info = json.loads((package / "model.json").read_text(encoding="utf-8"))
    name: str = info["shared_library"] or info["static_library"]
    return package / name
