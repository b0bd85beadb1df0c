"""Starts worker processes: forked by a zygote where that is safe, else fresh interpreters.

The zygote (``worker.py``) is one process per calling process, started when first needed. It has
imported what jobs need, so that a job starts in milliseconds and is still a process of its own.
Linux only: elsewhere a process cannot be told to end with its parent, and system libraries do not
survive a fork.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Protocol

_KILLED_S = 10.0  # how long a killed process may take to end
# Read when an interpreter starts or a library is loaded, which in a zygote is long past.
_FIXED_VARIABLES = ("PYTHON", "LD_")


class Child(Protocol):
    """A running job."""

    def wait(self, timeout: float) -> int | None:
        """Return its status (negative: the signal that killed it), or None if it still runs."""

    def kill(self) -> None:
        """Begin to stop it; ``wait`` tells when it has ended. Harmless when it has."""


def start(folder: Path) -> Child:
    """Start the job that is described in ``folder``.

    Raises:
        OSError: No process can be started.
    """
    if not hasattr(socket, "send_fds") or not _has_pidfd():
        return _Fresh(folder)
    try:
        return _Zygote.current().fork(folder)
    except (BrokenPipeError, ConnectionResetError):  # it died since the last job
        _Zygote.forget()
        return _Zygote.current().fork(folder)


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # not Linux, or forbidden
        return False
    return True


class _Fresh:
    """A job in an interpreter of its own."""

    def __init__(self, folder: Path) -> None:
        with (folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "mlopsc.worker", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def wait(self, timeout: float) -> int | None:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self._process.kill()


class _Zygote:
    """The caller's end of a zygote; it ends with this object, or with the calling process."""

    _lock = threading.Lock()
    _current: _Zygote | None = None

    def __init__(self) -> None:
        self._fixed = _fixed_variables()
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlopsc.worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._end = weakref.finalize(self, _end_zygote, self._requests, process)

    @classmethod
    def current(cls) -> _Zygote:
        """Return this process's zygote, a new one if variables it cannot follow have changed."""
        with cls._lock:
            if cls._current is None or cls._current._fixed != _fixed_variables():
                cls._current = cls()
            return cls._current

    @classmethod
    def forget(cls) -> None:
        """Let the next job start a new zygote; this one ends when its last job has."""
        cls._lock = threading.Lock()  # after a fork of the caller, nobody holds the old one
        cls._current = None

    def fork(self, folder: Path) -> _Forked:
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._requests, [os.fsencode(folder)], [theirs.fileno()])
        return _Forked(self, control)


# A forked copy of the calling process has no zygote of its own yet.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Zygote.forget)


def _fixed_variables() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith(_FIXED_VARIABLES)}


def _end_zygote(requests: socket.socket, process: subprocess.Popen[bytes]) -> None:
    requests.close()
    try:
        process.wait(_KILLED_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Forked:
    """A job in a child of a zygote."""

    def __init__(self, zygote: _Zygote, control: socket.socket) -> None:
        self._zygote = zygote  # lives as long as its jobs
        self._control = control
        self._status: int | None = None

    def wait(self, timeout: float) -> int | None:
        if self._status is None:
            self._control.settimeout(timeout)
            try:
                # Without an answer the zygote has died, and the kernel has killed the child.
                self._status = int(self._control.recv(16) or -signal.SIGKILL)
            except TimeoutError:
                return None
            except ConnectionResetError:
                self._status = -signal.SIGKILL
        return self._status

    def kill(self) -> None:
        if self._status is None:
            try:
                self._control.shutdown(socket.SHUT_WR)
            except OSError:  # its zygote has died
                return
