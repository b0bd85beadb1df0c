"""``mlopsc revoke REFERENCE --reason TEXT --key KEY`` and ``mlopsc revoke --show``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, json_option
from mlopsc.cli.passwords import password_file_option, read_key
from mlopsc.cli.references import reference_argument
from mlopsc.cli.render import echo_json, echo_table


@click.command("revoke")
@reference_argument(required=False)
@click.option("--reason", metavar="TEXT", help="Why; everybody who is refused reads it.")
@click.option("--key", type=PATH, help="Private key of the list.")
@password_file_option
@click.option("--list", "path", type=PATH, help="The list; your own, beside the log, by default.")
@click.option("--show", is_flag=True, help="Print the list, after checking it.")
@json_option
def command(
    reference: str | None,
    reason: str | None,
    key: Path | None,
    password_file: Path | None,
    path: Path | None,
    show: bool,
    as_json: bool,
) -> None:
    """Add REFERENCE to a revocation list, which is signed and only grows.

    REFERENCE is dataset:, bundle:, package:, model: or key:, and a digest. What is revoked, and
    everything made of it, is refused by build, verify, load, run and conform.
    """
    from mlopsc.trust.log import open_log, record
    from mlopsc.trust.revocations import no_log, own_list, read_list, revoke

    place = path or own_list()
    if place is None:
        raise no_log()
    if show:
        log = open_log()
        entries = read_list(place, None if log is None else log.heads)
        if as_json:
            echo_json([entry.model_dump(mode="json") for entry in entries])
        else:
            rows = [[e.reference, e.time, e.actor, e.reason] for e in entries]
            echo_table(str(place), ["revoked", "when", "by", "why"], rows)
        return
    if reference is None or not reason or key is None:
        raise click.UsageError("expected REFERENCE, --reason and --key, or --show")
    entry = revoke(place, reference, reason, read_key(key, password_file))
    record("revoke", reference, reference, {}, reason=reason, path=str(place.absolute()))
    if as_json:
        echo_json(entry.model_dump(mode="json"))
    else:
        click.echo(f"{place}: entry {entry.sequence} revokes {reference}")
        click.echo(f"  next: 'mlopsc affected {reference}' lists what was made of it", err=True)
