"""Entry point of worker processes: ``python -m mlopsc.worker REPLY`` with a job on standard input.

The job names a function of this package and its JSON arguments; the reply file holds its result
or its error. Only functions inside ``mlopsc`` are called.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path

from mlopsc.errors import MlopscError


def main() -> None:
    """Run one job."""
    _die_with_parent()
    job = json.load(sys.stdin)
    module, _, name = job["function"].partition(":")
    if module.split(".")[0] != "mlopsc":
        raise SystemExit(f"worker: refused to call '{job['function']}'")
    reply: dict[str, object]
    try:
        reply = {"result": getattr(importlib.import_module(module), name)(**job["arguments"])}
    except MlopscError as error:
        reply = {
            "error": {
                "kind": type(error).__name__,
                "message": error.message,
                "hint": error.hint,
            }
        }
    except Exception as error:  # a compiler's own exception: reported, never a traceback
        text = " ".join(str(error).split()) or "no message"
        reply = {
            "error": {
                "kind": "",
                "message": f"{type(error).__name__} in {job['function']}: {text[:600]}",
                "hint": "",
            }
        }
    path = Path(sys.argv[1])
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(reply))
    partial.rename(path)
    # Compilers and emulators may crash while they are torn down; the work is done and recorded.
    os._exit(0)


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however it ends (Linux)."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()
