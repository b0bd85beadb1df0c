"""Where the log and revocation lists lie. Light: who loads a model looks here first."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

LOG_VARIABLE: Final = "MLOPSC_LOG_DIR"
LISTS_VARIABLE: Final = "MLOPSC_REVOCATIONS"
HEADS_FILE: Final = "heads.json"
LIST_FILE: Final = "revocations.jsonl"


def log_folder() -> Path | None:
    """Return the folder of the log, or None if none is kept."""
    chosen = os.environ.get(LOG_VARIABLE)
    if chosen == "":
        return None
    if chosen:
        return Path(chosen).absolute()
    import platformdirs

    return platformdirs.user_data_path("mlopsc").absolute() / "log"


def named_lists(paths: Iterable[Path] = ()) -> list[Path]:
    """Return the lists that the environment and ``paths`` name."""
    named = os.environ.get(LISTS_VARIABLE, "").split(os.pathsep)
    return [*(Path(name) for name in named if name), *paths]


def may_be_revoked(paths: Iterable[Path] = ()) -> bool:
    """Whether any list must be read: one that is named, the user's own, or one that was there."""
    if named_lists(paths):
        return True
    folder = log_folder()
    return folder is not None and any(is_there(folder / f) for f in (LIST_FILE, HEADS_FILE))


def is_there(path: Path) -> bool:
    """Whether there is something that must be read; what cannot be seen is."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
