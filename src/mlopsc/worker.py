"""The child's side of worker processes; ``zygote`` and ``tools.run_worker`` are the caller's side.

``python -m mlopsc.worker`` with a socket as standard input is a *zygote*: it imports the modules
that jobs name, once, and forks one child per job. ``python -m mlopsc.worker FOLDER`` runs one job
and ends. A job is a folder with ``job.json``: function, arguments, environment and current folder;
``reply.json`` appears in it with the result or the error. Only functions inside ``mlopsc`` are
called.

Requires: what is imported starts no threads, because a fork does not copy them.
Ensures: a child ends when its zygote does, a zygote when its caller does, however they end.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from mlopsc import sandbox
from mlopsc.errors import MlopscError

_REQUEST_BYTES = 4096  # the longest path


def main() -> NoReturn:
    """Be a zygote, or run the one job that is named."""
    if len(sys.argv) > 1:
        _die_with_parent()
        _run_job(Path(sys.argv[1]), set())
    # Before numpy is imported: its library of linear algebra would start threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what an interrupt stops
    with socket.socket(fileno=os.dup(0)) as requests:
        _serve(requests)
    os._exit(0)


def _serve(requests: socket.socket) -> None:
    """Fork a child for each request until the caller ends.

    A request is the path of a job's folder, with the job's own socket: it carries the status of the
    child to the caller, and when the caller shuts its side down, the child is killed.
    """
    inherited = set(os.environ)
    selector = selectors.DefaultSelector()
    caller = os.pidfd_open(os.getppid())
    selector.register(requests, selectors.EVENT_READ)
    selector.register(caller, selectors.EVENT_READ)
    children: dict[int, tuple[int, int]] = {}  # process and control by what becomes readable
    while True:
        key, _ = selector.select()[0]  # one at a time: its handling may close what others name
        if key.fd == caller:
            return
        if key.fd == requests.fileno():
            data, received, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 1)
            if not data:
                return
            (control,) = received
            process = _fork(Path(os.fsdecode(data)), selector, inherited)
            ended = os.pidfd_open(process)
            children[ended] = children[control] = (process, control)
            selector.register(ended, selectors.EVENT_READ)
            selector.register(control, selectors.EVENT_READ)
            continue
        process, control = children.pop(key.fd)
        selector.unregister(key.fd)
        if key.fd == control:  # the caller has given the job up
            os.kill(process, signal.SIGKILL)
            continue
        os.close(key.fd)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with contextlib.suppress(OSError):  # the caller may not wait any more
            os.write(control, str(status).encode())
        if children.pop(control, None):
            selector.unregister(control)
        os.close(control)


def _fork(folder: Path, selector: selectors.BaseSelector, inherited: set[str]) -> int:
    """Start the job in ``folder`` and return the child's process id."""
    _preload(folder)
    # Before the fork, so that a child's words are kept from its first instruction on.
    stderr = os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.dup2(stderr, 2)
    os.close(stderr)
    zygote = os.getpid()
    process = os.fork()
    if process != 0:
        return process
    try:
        _die_with_parent()
        if os.getppid() != zygote:  # it ended before the kernel was asked
            os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for key in list(selector.get_map().values()):
            os.close(key.fd)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(nothing, 0)
        _run_job(folder, inherited)
    finally:
        os._exit(1)


def _preload(folder: Path) -> None:
    """Import the module of a job, so that its child and all later ones have it already."""
    with contextlib.suppress(Exception):  # the child meets the same and reports it
        module = json.loads((folder / "job.json").read_text())["function"].partition(":")[0]
        if module.partition(".")[0] == "mlopsc" and module not in sys.modules:
            importlib.import_module(module)
            gc.collect()
            gc.freeze()  # collections in the children leave these pages shared


def _run_job(folder: Path, inherited: set[str]) -> NoReturn:
    """Run the job in ``folder``; ``inherited`` are the variables this process began with."""
    job = json.loads((folder / "job.json").read_text())
    for name in inherited - set(job["environment"]):
        os.environ.pop(name, None)
    os.environ.update(job["environment"])
    tempfile.tempdir = None  # chosen again, from this job's environment
    with contextlib.suppress(OSError):  # a folder that is gone
        os.chdir(job["cwd"])
    if job["memory"] is not None:
        _limit_memory(job["memory"])
    module, _, name = job["function"].partition(":")
    if module.partition(".")[0] != "mlopsc":
        sys.stderr.write(f"worker: refused to call '{job['function']}'\n")
        sys.stderr.flush()
        os._exit(1)
    if job["sandboxed"]:
        sandbox.enter()
    path = folder / "reply.json"
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(_call(module, name, job["arguments"]), default=str))
    partial.rename(path)
    # Compilers and emulators may crash while they are torn down; the work is done and recorded.
    os._exit(0)


def _limit_memory(limit: int) -> None:
    """Make requests for more than ``limit`` bytes of private memory fail (Linux)."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _call(module: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        result = getattr(importlib.import_module(module), name)(**arguments)
        json.dumps(result)
    except MlopscError as error:
        return {"error": _describe(error)}
    except Exception as error:  # a compiler's own exception: reported, never a traceback
        text = " ".join(str(error).split()) or "no message"
        message = f"{type(error).__name__} in {module}:{name}: {text[:600]}"
        return {"error": {"kind": "", "message": message, "hint": "", "also": [], "details": {}}}
    return {"result": result}


def _describe(error: MlopscError) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "also": [_describe(other) for other in error.also],
        "details": {k: v for k, v in vars(error).items() if k not in ("hint", "also")},
    }


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however it ends (Linux)."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()
