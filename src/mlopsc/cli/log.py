"""``mlopsc log`` and ``mlopsc log --verify``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, json_option
from mlopsc.cli.render import echo_json, echo_table


@click.command("log")
@click.option("--verify", is_flag=True, help="Only say whether the whole chain holds.")
@click.option("--key", "keys", type=PATH, multiple=True, metavar="PUB", help="Who may have signed.")
@click.option("--head", metavar="DIGEST", help="An entry that must be in it.")
@click.option("--number", "-n", type=click.IntRange(min=1), help="Show only the last entries.")
@json_option
def command(
    verify: bool, keys: tuple[Path, ...], head: str | None, number: int | None, as_json: bool
) -> None:
    """Show who imported, built, signed and revoked what, and when.

    Each entry is signed and names the one before; the whole chain is checked each time. Keep the
    head that --verify prints elsewhere: with --head, cutting entries off is noticed.
    """
    from mlopsc.errors import LogError
    from mlopsc.trust.keys import load_public
    from mlopsc.trust.log import open_log
    from mlopsc.trust.revocations import no_log

    log = open_log()
    if log is None:
        raise no_log()
    entries, digests = log.read([load_public(path) for path in keys])
    if head is not None and head not in digests:
        raise LogError(f"the log '{log.chain.path}' has no entry {head}: entries were removed")
    if verify:
        last = digests[-1] if digests else "none"
        if as_json:
            echo_json({"log": str(log.chain.path), "entries": len(entries), "head": last})
        else:
            click.echo(f"{log.chain.path}: {len(entries)} entries hold, head {last}")
        return
    shown = entries if number is None else entries[-number:]
    if as_json:
        echo_json([entry.model_dump(mode="json") for entry in shown])
        return
    rows = [
        [str(e.sequence), e.time, e.actor, e.action, e.name, e.subject, _details(e.details)]
        for e in shown
    ]
    echo_table(str(log.chain.path), ["", "when", "who", "did", "name", "what", "how"], rows)


def _details(details: dict[str, object]) -> str:
    return ", ".join(f"{k}={v}" for k, v in sorted(details.items()) if k != "path" and v)
