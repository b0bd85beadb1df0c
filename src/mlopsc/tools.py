"""The only place that runs other processes: external programs and our own workers.

Programs get argument lists, never a shell. A worker is a process that calls one function with JSON
(``zygote`` starts it); it isolates compilers and emulators that can crash the process.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mlopsc import zygote
from mlopsc.errors import CompilerError, MissingToolError, MlopscError

WORKER_TIMEOUT_S = 3600.0
IMPORT_TIMEOUT_S = 1800.0
RUN_TIMEOUT_S = 900.0  # of a library that may never return
_KILLED_S = 10.0  # how long a killed worker may take to end
_LAST_WORDS = 1 << 16  # bytes of what a dead worker printed that are looked at
_live_workers: set[zygote.Child] = set()


def find_program(name: str, *, install: str) -> Path:
    """Return the path of a program on ``PATH``.

    Args:
        name: The program.
        install: The command that installs it, for the message.

    Raises:
        MissingToolError: It is not there.
    """
    found = shutil.which(name)
    if found is None:
        raise MissingToolError(
            f"the program '{name}' was not found on PATH", hint=f"install it: {install}"
        )
    return Path(found)


@cache
def zig() -> Path:
    """Return the path of the Zig compiler from the ``ziglang`` wheel.

    Raises:
        MissingToolError: The wheel is not installed.
    """
    try:
        import ziglang
    except ImportError as error:
        raise MissingToolError(
            "the Python package 'ziglang' (C cross compiler) is not installed",
            hint="install it: pip install ziglang",
        ) from error
    return Path(ziglang.__file__).parent / ("zig.exe" if os.name == "nt" else "zig")


@cache
def _zig_environment() -> dict[str, str]:
    """Return the environment of Zig, with its cache in a folder that can be written."""
    environment = dict(os.environ)
    if "ZIG_GLOBAL_CACHE_DIR" not in environment:
        import platformdirs

        cache_dir = Path(platformdirs.user_cache_dir("mlopsc")) / "zig"
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
        except OSError:
            # No home to write to: a folder of this process's own, made again each time.
            cache_dir = Path(tempfile.mkdtemp(prefix="mlopsc-zig-"))
            atexit.register(shutil.rmtree, cache_dir, ignore_errors=True)
        environment["ZIG_GLOBAL_CACHE_DIR"] = str(cache_dir)
    return environment


def run_zig(arguments: Sequence[str], *, cwd: Path) -> None:
    """Run Zig.

    Raises:
        CompilerError: It failed; the message carries the first lines it printed.
    """
    # What is made of a model, weights above all, is not kept: it would fill the disk.
    with tempfile.TemporaryDirectory(prefix="mlopsc-zig-") as local:
        environment = {**_zig_environment(), "ZIG_LOCAL_CACHE_DIR": local}
        result = run_program(zig(), arguments, cwd=cwd, environment=environment)
    if result.returncode != 0:
        lines = [
            line for line in result.stderr.decode(errors="replace").splitlines() if line.strip()
        ]
        raise CompilerError(
            f"zig {' '.join(arguments[:1])} failed with status {result.returncode}: "
            + "\n".join(lines[:8])
        )


def run_program(
    program: Path,
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = 600.0,
) -> subprocess.CompletedProcess[bytes]:
    """Run an external program and return what it printed, whatever its status.

    Raises:
        CompilerError: It could not be started or ran longer than ``timeout`` seconds.
    """
    try:
        return subprocess.run(  # noqa: S603 - an argument list; the program is found by name above
            [str(program), *arguments],
            cwd=cwd,
            env=dict(environment) if environment is not None else None,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CompilerError(f"{program.name} did not finish within {timeout:g} s") from error
    except OSError as error:
        raise CompilerError(f"{program.name} could not be started: {error}") from error


def run_worker(
    function: str,
    arguments: Mapping[str, Any],
    *,
    crash: type[MlopscError] = CompilerError,
    timeout: float = WORKER_TIMEOUT_S,
    memory: int | None = None,
    sandboxed: bool = False,
    label: str = "",
    hint: str = "",
) -> Any:
    """Call ``module:function(**arguments)`` in a worker process and return its JSON result.

    Args:
        function: ``package.module:name``. The function takes and returns JSON values.
        arguments: Its keyword arguments.
        crash: The error raised when the process dies or fails unexpectedly.
        timeout: Seconds until the worker is killed.
        label: What it does, for messages; the function by default.
        hint: What to do when it dies or takes too long; that of ``crash`` by default.
        memory: Bytes of memory of its own that it may take (Linux); mapped files do not count.
        sandboxed: Whether network, other programs and pickles are denied to it (``sandbox``).

    Raises:
        MlopscError: What the function raised, with the same class, message and hint.
    """
    label = label or f"the worker process of {function}"
    job = {
        "function": function,
        "arguments": dict(arguments),
        "cwd": _current_folder(),
        "memory": memory,
        "sandboxed": sandboxed,
    }
    with tempfile.TemporaryDirectory(prefix="mlopsc-worker-") as name:
        folder = Path(name)
        # What a killed worker leaves behind goes when this folder goes.
        job["environment"] = {**os.environ, "TMPDIR": name}
        (folder / "job.json").write_text(json.dumps(job))
        child = zygote.start(folder)
        _live_workers.add(child)
        try:
            status = child.wait(timeout)
        finally:
            child.kill()
            child.wait(_KILLED_S)
            _live_workers.discard(child)
        if status is None:
            raise crash(f"{label} did not finish within {timeout:g} s and was stopped", hint=hint)
        if not (folder / "reply.json").is_file():
            raise crash(_describe_death(label, status, folder / "stderr"), hint=hint)
        reply = json.loads((folder / "reply.json").read_text())
    if "error" in reply:
        raise _rebuild_error(reply["error"], crash)
    return reply["result"]


def _current_folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it has been removed
        return os.sep


def stop_workers() -> None:
    """Kill all workers, so that threads waiting for them return; called on an interrupt."""
    for child in list(_live_workers):
        child.kill()


def _describe_death(label: str, status: int, stderr: Path) -> str:
    if status < 0:
        try:
            reason = f"was killed by signal {signal.Signals(-status).name}"
        except ValueError:
            reason = f"was killed by signal {-status}"
    else:
        reason = f"ended with status {status}"
    text = ""
    if stderr.is_file():
        with stderr.open("rb") as file:
            file.seek(max(0, stderr.stat().st_size - _LAST_WORDS))
            text = file.read().decode(errors="replace")
    tail = [line for line in text.splitlines() if line.strip()][-1:]
    return f"{label} {reason}" + (f": {tail[0][:300]}" if tail else "")


def _rebuild_error(error: Mapping[str, Any], crash: type[MlopscError]) -> MlopscError:
    kinds: dict[str, type[MlopscError]] = {}
    pending: list[type[MlopscError]] = [MlopscError]
    while pending:
        kind = pending.pop()
        kinds[kind.__name__] = kind
        pending.extend(kind.__subclasses__())
    rebuilt = kinds.get(error["kind"], crash)(error["message"], hint=error["hint"])
    for name, value in error["details"].items():  # JSON knows no tuples, errors no lists
        setattr(rebuilt, name, tuple(value) if isinstance(value, list) else value)
    rebuilt.also = tuple(_rebuild_error(other, crash) for other in error["also"])
    return rebuilt


@cache
def zig_version() -> str:
    """Return the version of Zig."""
    return run_program(zig(), ["version"]).stdout.decode().strip()
