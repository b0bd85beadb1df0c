"""Runners execute packages: in this process, on emulated processors and boards, in WebAssembly.

Each is one module with the functions of ``Runner``; the target file says which may be used. All run
in a worker process, because a damaged library may do anything. What always holds: scratch memory
and outputs hold garbage before a call, so that a library that reads or forgets them is noticed; and
a missing tool is an error with the command that installs it, never a pass.
"""

from __future__ import annotations

from mlopsc.runners.base import CallSite
from mlopsc.runners.run import RunResult, choose_runner, run_package

__all__ = ["CallSite", "RunResult", "choose_runner", "run_package"]
