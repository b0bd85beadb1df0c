"""The only place that starts a subprocess: external programs and our own workers.

Programs get argument lists, never a shell. A worker is a fresh interpreter that imports one
function and calls it with JSON; it isolates compilers and emulators that can crash the process.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mlopsc.errors import CompilerError, MissingToolError, MlopscError

WORKER_TIMEOUT_S = 3600.0
_live_workers: set[subprocess.Popen[bytes]] = set()


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
    environment["ZIG_LOCAL_CACHE_DIR"] = environment["ZIG_GLOBAL_CACHE_DIR"]
    return environment


def run_zig(arguments: Sequence[str], *, cwd: Path) -> None:
    """Run Zig.

    Raises:
        CompilerError: It failed; the message carries the first lines it printed.
    """
    result = run_program(zig(), arguments, cwd=cwd, environment=_zig_environment())
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
) -> Any:
    """Call ``module:function(**arguments)`` in a fresh interpreter and return its JSON result.

    Args:
        function: ``package.module:name``. The function takes and returns JSON values.
        arguments: Its keyword arguments.
        crash: The error raised when the process dies or fails unexpectedly.
        timeout: Seconds until the worker is killed.

    Raises:
        MlopscError: What the function raised, with the same class, message and hint.
    """
    job = json.dumps({"function": function, "arguments": dict(arguments)})
    with tempfile.TemporaryDirectory(prefix="mlopsc-worker-") as folder:
        reply_path = Path(folder) / "reply.json"
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", "mlopsc.worker", str(reply_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # What a killed worker leaves behind goes when this folder goes.
            env={**os.environ, "TMPDIR": folder},
        )
        _live_workers.add(process)
        try:
            _, stderr = process.communicate(job.encode(), timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise crash(
                f"{function} did not finish within {timeout:g} s and was stopped"
            ) from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            _live_workers.discard(process)
        if not reply_path.is_file():
            raise crash(_describe_death(function, process.returncode, stderr))
        reply = json.loads(reply_path.read_text())
    if "error" in reply:
        raise _rebuild_error(reply["error"], crash)
    return reply["result"]


def stop_workers() -> None:
    """Kill all workers, so that threads waiting for them return; called on an interrupt."""
    for process in list(_live_workers):
        process.kill()


def _describe_death(function: str, status: int, stderr: bytes) -> str:
    if status < 0:
        try:
            reason = f"was killed by signal {signal.Signals(-status).name}"
        except ValueError:
            reason = f"was killed by signal {-status}"
    else:
        reason = f"ended with status {status}"
    tail = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()][-1:]
    return f"the worker process of {function} {reason}" + (f": {tail[0][:300]}" if tail else "")


def _rebuild_error(error: Mapping[str, str], crash: type[MlopscError]) -> MlopscError:
    kinds: dict[str, type[MlopscError]] = {}
    pending: list[type[MlopscError]] = [MlopscError]
    while pending:
        kind = pending.pop()
        kinds[kind.__name__] = kind
        pending.extend(kind.__subclasses__())
    return kinds.get(error["kind"], crash)(error["message"], hint=error["hint"])


@cache
def zig_version() -> str:
    """Return the version of Zig."""
    return run_program(zig(), ["version"]).stdout.decode().strip()
