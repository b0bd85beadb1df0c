"""``mlopsc targets`` and ``mlopsc targets show NAME``."""

from __future__ import annotations

import click

from mlopsc.cli.options import json_option
from mlopsc.cli.render import echo_json, echo_table


@click.group("targets", invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the targets, or show one."""
    if context.invoked_subcommand is not None:
        return
    from mlopsc.targets import load_target, target_names

    targets = [load_target(name) for name in target_names()]
    if as_json:
        echo_json([t.model_dump(mode="json") for t in targets])
        return
    rows = [
        [t.name, t.family, t.compile.generator, ", ".join(t.run.runners), t.description]
        for t in targets
    ]
    echo_table("Targets", ["name", "family", "kernels", "runners", "description"], rows)


@command.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Print one target, complete, as JSON; NAME is a target or the path of a .toml file."""
    from mlopsc.targets import load_target

    echo_json(load_target(name).model_dump(mode="json"))
