"""Takes from a process what reading a model never needs: network, other programs, pickles.

Two fences, because a framework is both Python and C++. The kernel's filter of system calls
(seccomp(2), Linux on x86-64 and AArch64) denies sockets of the Internet and programs to everything
in the process. Python's audit hooks (PEP 578) deny the same, and pickles that name classes or
functions, on every system.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
import sys
from typing import Any, Final

# Event of an audit hook, and what it is called in the error.
_DENIED: Final = {
    "ftplib.connect": "the network",
    "http.client.connect": "the network",
    "os.exec": "other programs",
    "os.posix_spawn": "other programs",
    "os.spawn": "other programs",
    "os.startfile": "other programs",
    "os.system": "other programs",
    "pickle.find_class": "pickles",
    "pty.spawn": "other programs",
    "smtplib.connect": "the network",
    "socket.connect": "the network",
    "socket.getaddrinfo": "the network",
    "socket.sendto": "the network",
    "subprocess.Popen": "other programs",
    "urllib.Request": "the network",
    "webbrowser.open": "other programs",
}
_NO_NEW_PRIVILEGES: Final = 38  # PR_SET_NO_NEW_PRIVS of prctl(2)
_SET_SECCOMP: Final = 22  # PR_SET_SECCOMP
_X32: Final = 0x40000000  # numbers of the second table of x86-64 begin here
_IO_URING: Final = 425  # io_uring_setup(2), which opens sockets past the filter; on both
_FILTER: Final = 2  # SECCOMP_MODE_FILTER
_ALLOW: Final = 0x7FFF0000  # SECCOMP_RET_ALLOW
_ERRNO: Final = 0x00050000  # SECCOMP_RET_ERRNO
# Architecture of the system call table, and the numbers of socket, execve and execveat in it.
_TABLES: Final = {"x86_64": (0xC000003E, 41, 59, 322), "aarch64": (0xC00000B7, 198, 221, 281)}


class DeniedError(PermissionError):
    """Something asked for what a sandbox denies."""


def enter() -> None:
    """Deny network, programs and foreign code to this process, for as long as it lives."""
    sys.addaudithook(_audit)
    if sys.platform == "linux":
        filter_system_calls()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    denied = _DENIED.get(event)
    if denied is not None:
        raise DeniedError(f"{event}: a model that is being read must not use {denied}")


def filter_system_calls() -> bool:
    """Let the kernel deny Internet sockets and programs; return whether it does."""
    table = _TABLES.get(platform.machine())
    if table is None:
        return False
    architecture, open_socket, *programs = table
    denied = _ERRNO | errno.EACCES
    domains = (socket.AF_INET, socket.AF_INET6)
    # Offsets in struct seccomp_data: the number at 0, the architecture at 4, arguments from 16 on.
    code = [
        _load(4),
        _equal(architecture, 1, 0),
        _give(denied),  # another table, in which numbers mean something else
        _load(0),
        _at_least(_X32, 7, 0),
        _equal(programs[0], 6, 0),
        _equal(programs[1], 5, 0),
        _equal(_IO_URING, 4, 0),
        _equal(open_socket, 0, 4),
        _load(16),
        _equal(int(domains[0]), 1, 0),
        _equal(int(domains[1]), 0, 1),
        _give(denied),
        _give(_ALLOW),
    ]
    program = ctypes.create_string_buffer(b"".join(code))
    header = struct.pack("@HP", len(code), ctypes.addressof(program))
    libc = ctypes.CDLL(None)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_SET_SECCOMP, _FILTER, header) == 0)


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", 0x20, 0, 0, offset)  # BPF_LD | BPF_W | BPF_ABS


def _equal(value: int, then: int, otherwise: int) -> bytes:
    """Skip ``then`` instructions if the loaded value is ``value``, else ``otherwise``."""
    return struct.pack("=HBBI", 0x15, then, otherwise, value)  # BPF_JMP | BPF_JEQ | BPF_K


def _at_least(value: int, then: int, otherwise: int) -> bytes:
    return struct.pack("=HBBI", 0x35, then, otherwise, value)  # BPF_JMP | BPF_JGE | BPF_K


def _give(value: int) -> bytes:
    return struct.pack("=HBBI", 0x06, 0, 0, value)  # BPF_RET | BPF_K
