"""Checks a model against the flash and RAM of its target."""

from __future__ import annotations

from mlopsc.errors import LimitError
from mlopsc.schema.target import Target


def check_limits(target: Target, *, flash: int, ram: int, what: str) -> None:
    """Compare needs in bytes with the target's limits.

    Raises:
        LimitError: One is exceeded; the message gives both numbers.
    """
    for name, need, limit in (
        ("flash", flash, target.limits.flash_bytes),
        ("RAM", ram, target.limits.ram_bytes),
    ):
        if limit is not None and need > limit:
            raise LimitError(
                f"{what} needs {need} bytes of {name}; target '{target.name}' has {limit}",
                hint="choose a larger target or a smaller model",
            )
