"""A process that reads models of strangers has no network, starts nothing and unpickles nothing."""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from mlopsc import sandbox


def outcome(action: Callable[[], object], *, filtered: bool) -> str:
    """Return what ``action`` raises in a process of its own that is fenced in."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sandbox.filter_system_calls() if filtered else sandbox.enter()
            action()
            text = "done"
        except BaseException as error:
            text = type(error).__name__
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


class Call:
    """An object whose pickle names a function."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        """See ``object``."""
        return os.system, ("true",)


def open_ring() -> None:
    """Set up a ring of io_uring(7), through which sockets are opened without ``socket``."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 1, ctypes.create_string_buffer(256)) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")


ACTIONS: dict[str, Callable[[], object]] = {
    "connect": lambda: socket.create_connection(("127.0.0.1", 9), 1),
    "look up": lambda: socket.getaddrinfo("localhost", 80),
    "program": lambda: subprocess.run([sys.executable, "-c", ""], check=False),
    "shell": lambda: os.system("true"),  # noqa: S605
    "pickle": lambda: pickle.loads(pickle.dumps(Call())),  # noqa: S301
}


@pytest.mark.parametrize("name", ACTIONS)
def test_audit_hooks_deny(name: str) -> None:
    assert outcome(ACTIONS[name], filtered=False) in ("DeniedError", "PermissionError")


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the kernel's filter is for Linux on x86-64 and AArch64",
)
@pytest.mark.parametrize(
    "action",
    [
        lambda: socket.socket(socket.AF_INET),
        lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        lambda: os.execv(sys.executable, ["python", "-c", ""]),  # noqa: S606
        lambda: os.posix_spawn(sys.executable, ["python", "-c", ""], {}),
        open_ring,
    ],
)
def test_the_kernel_denies(action: Callable[[], object]) -> None:
    assert outcome(action, filtered=True) == "PermissionError"


def test_local_work_goes_on() -> None:
    assert outcome(lambda: socket.socketpair(), filtered=False) == "done"
    plain = pickle.dumps([1, "a"])
    assert outcome(lambda: pickle.loads(plain), filtered=False) == "done"  # noqa: S301
