"""References to what can be revoked: a kind and a digest."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_KINDS = ("dataset", "bundle", "package", "model", "key")


def reference_argument(*, required: bool) -> Callable[[F], F]:
    """Return a decorator that adds the argument REFERENCE."""
    return click.argument("reference", required=required, callback=_parse)


def _parse(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del context
    if value is None or re.fullmatch(rf"({'|'.join(_KINDS)}):sha256:[0-9a-f]{{64}}", value):
        return value
    raise click.BadParameter(
        f"'{value}'; expected one of {', '.join(_KINDS)}, then ':sha256:' and 64 hex digits",
        param=parameter,
    )
