"""Foreign libraries at work: what they say is kept from the user, and put into errors."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep what libraries tell of their own affairs from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def words(error: BaseException, *said: str) -> str:
    """Return an error on one line: what the library said first of all, or the error's own text."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", said[0] if said else str(error)).split())
    return f"{type(error).__name__}: {text[:400]}"


@contextlib.contextmanager
def listening(library: str) -> Iterator[list[str]]:
    """Yield what a library logs as errors, which name operators; nothing is shown."""
    said: list[str] = []

    class _Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger = logging.getLogger(library)
    handler, before = _Keep(logging.ERROR), (logger.handlers, logger.level, logger.propagate)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.ERROR)
    try:
        yield said
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
