"""``mlopsc verify ARTEFACT --key KEY.pub``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from mlopsc.cli.options import PATH, collect_trust_options, json_option, trust_options
from mlopsc.cli.render import echo_json, echo_table


@click.command("verify")
@click.argument("artefact", type=PATH)
@trust_options
@json_option
def command(artefact: Path, as_json: bool, **options: Any) -> None:
    """Check that a bundle or package is whole, in lock-step, signed and not revoked.

    Nothing is run: 'mlopsc conform' proves what a package computes.
    """
    from mlopsc.trust.policy import verify

    found = verify(artefact, collect_trust_options(options))
    if as_json:
        echo_json(
            {
                "artefact": str(artefact),
                "kind": found.artefact.kind,
                "digest": found.artefact.digest,
                "format_version": found.artefact.format_version,
                "checks": [asdict(check) for check in found.checks],
            }
        )
        return
    rows = [[check.name, check.verdict, check.detail] for check in found.checks]
    echo_table(f"{artefact}: {found.artefact.reference}", ["check", "", "found"], rows)
