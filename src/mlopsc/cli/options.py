"""Options that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
force_option = click.option("--force", is_flag=True, help="Replace an output that exists.")
cache_option = click.option(
    "--no-cache",
    "cache",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Make everything anew, and keep nothing for the next time.",
)
runner_option = click.option(
    "--runner",
    metavar="NAME",
    help="Which runner: native, unicorn, wasmtime or qemu; the target's first by default.",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="Stop a package that runs longer.",
)


class _PathType(click.Path):
    """A path; an empty one is refused, which would be the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if value == "":
            self.fail("the path is empty; expected the path of a file or folder", param, ctx)
        return super().convert(value, param, ctx)


PATH = _PathType(path_type=Path)
revocations_option = click.option(
    "--revocations",
    type=PATH,
    multiple=True,
    metavar="LIST",
    help="Revocation list beside your own; repeat. Also MLOPSC_REVOCATIONS.",
)


def _parse_bind(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, int]:
    del context
    bound = {}
    for value in values:
        name, separator, number = value.rpartition("=")
        if not separator or not name or not (number.isascii() and number.isdecimal()):
            raise click.BadParameter(f"'{value}'; expected NAME=NUMBER", param=parameter)
        if name in bound:
            raise click.BadParameter(f"'{name}' is given twice", param=parameter)
        bound[name] = int(number)
    return bound


def _parse_digest(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    del context
    if value is None or re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        return value
    raise click.BadParameter(f"'{value}'; expected sha256: and 64 hex digits", param=parameter)


def trust_options(function: F) -> F:
    """Add the options that say whom to believe."""
    for option in reversed(
        (
            click.option(
                "--key",
                "keys",
                type=PATH,
                multiple=True,
                metavar="PUB",
                help="Public key that may have signed; repeat. MLOPSC_VERIFY_KEY by default.",
            ),
            click.option(
                "--root",
                "roots",
                type=PATH,
                multiple=True,
                metavar="PEM",
                help="Root certificate that a signer's may lead to; repeat.",
            ),
            revocations_option,
            click.option(
                "--allow-unsigned", is_flag=True, help="Accept what nobody has signed; recorded."
            ),
            click.option(
                "--allow-expired",
                is_flag=True,
                help="Accept signatures and certificates whose time is over; recorded.",
            ),
        )
    ):
        function = option(function)
    return function


def collect_trust_options(given: dict[str, Any]) -> Any:
    """Return ``TrustOptions`` from the keyword arguments of a verb, which lose them."""
    from mlopsc.trust.policy import TrustOptions

    names = ("keys", "roots", "revocations", "allow_unsigned", "allow_expired", "unchecked")
    return TrustOptions(**{name: given.pop(name) for name in names if name in given})


unchecked_option = click.option(
    "--unchecked", is_flag=True, help="Do not look at the bundle's signature; recorded."
)


def build_options(function: F) -> F:
    """Add the options that say how to compile."""
    for option in reversed(
        (
            click.option(
                "--generator",
                type=click.Choice(["llvm", "c"]),
                help="How kernels are generated; each target's own by default.",
            ),
            click.option(
                "--schedule",
                type=click.Choice(["tiled", "none"]),
                default="tiled",
                show_default=True,
                help="'none' leaves the loops unscheduled, to measure what scheduling gives.",
            ),
            click.option(
                "--accuracy",
                type=click.Choice(["fast", "strict"]),
                default="fast",
                show_default=True,
                help="'strict' allows no algorithm that trades accuracy for speed.",
            ),
            click.option(
                "--io-in-arena",
                is_flag=True,
                help="Inputs and outputs lie in the arena, at offsets that the header gives.",
            ),
            click.option(
                "--arena-limit",
                type=click.IntRange(min=0),
                metavar="BYTES",
                help="What the arena may take; the target's RAM by default. Where it would take "
                "more, the first layers are computed patch by patch.",
            ),
            click.option(
                "--patches",
                type=click.IntRange(min=1),
                metavar="N",
                help="In how many patches; by default as few as the limit asks for.",
            ),
        )
    ):
        function = option(function)
    return function


def collect_build_options(given: dict[str, Any]) -> Any:
    """Return ``BuildOptions`` from the keyword arguments of a verb, which lose them."""
    from mlopsc.schema.build_options import BuildOptions

    names = ("generator", "schedule", "accuracy", "io_in_arena", "arena_limit", "patches")
    return BuildOptions(**{name: given.pop(name) for name in names})


def import_options(function: F) -> F:
    """Add the options that say how to import."""
    for option in reversed(
        (
            click.option(
                "--preprocess",
                type=PATH,
                metavar="FILE",
                help="Graph in front of the model: .onnx, steps (.yaml, .json) or onnxscript "
                "(.py, .py:FUNCTION).",
            ),
            click.option(
                "--postprocess",
                type=PATH,
                metavar="FILE",
                help="Graph behind the model, of the same kinds.",
            ),
            click.option(
                "--vectors",
                type=PATH,
                metavar="NPZ",
                help="Raw test inputs by name, first axis counting; optionally 'label'.",
            ),
            click.option(
                "--bind",
                multiple=True,
                callback=_parse_bind,
                metavar="NAME=N",
                help="Size of a symbolic dimension (or INPUT:AXIS=N), 1 by default for the batch; "
                "length of an input that is a sequence.",
            ),
            click.option("--name", help="Name of the model; the file's name by default."),
            click.option("--model-version", default="0", help="Your version of the model."),
            click.option(
                "--trained-with",
                metavar="DIGEST",
                callback=_parse_digest,
                help="Digest of the preprocessing that trained the model; another is refused.",
            ),
            click.option(
                "--lineage",
                type=PATH,
                metavar="YAML",
                help="How the model came to be; lineage.yaml beside the model by default.",
            ),
            click.option(
                "--no-lineage",
                is_flag=True,
                help="Do not look for a lineage.yaml beside the model.",
            ),
            click.option(
                "--no-split",
                "split",
                is_flag=True,
                flag_value=False,
                default=True,
                help="Leave preprocessing that is found at the model's head inside the model.",
            ),
            click.option(
                "--signature",
                metavar="NAME",
                help="Which signature of a model that has several.",
            ),
            click.option(
                "--trust",
                multiple=True,
                metavar="TYPE",
                help="Type that a skops file may hold, by full name; repeat.",
            ),
            click.option(
                "--accept-divergence",
                metavar="REASON",
                help="Import although the bundle differs from the original; recorded.",
            ),
        )
    ):
        function = option(function)
    return function


def collect_import_options(given: dict[str, Any]) -> Any:
    """Return ``ImportOptions`` from the keyword arguments of a verb."""
    from mlopsc.schema.import_options import ImportOptions

    return ImportOptions(
        preprocess=given["preprocess"],
        postprocess=given["postprocess"],
        vectors=given["vectors"],
        bind=given["bind"],
        name=given["name"],
        version=given["model_version"],
        trained_with=given["trained_with"],
        lineage=given["lineage"],
        find_lineage=not given["no_lineage"],
        split=given["split"],
        signature=given["signature"],
        trust=given["trust"],
        accept_divergence=given["accept_divergence"],
    )
