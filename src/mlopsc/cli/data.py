"""``mlopsc data fingerprint PATH...`` and ``mlopsc data diff OLD NEW``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlopsc.cli.options import PATH, cache_option, force_option, json_option
from mlopsc.cli.render import echo_json, progress, size

if TYPE_CHECKING:
    from mlopsc.data.compare import Difference
    from mlopsc.data.fingerprint import Progress
    from mlopsc.schema.fingerprint import Fingerprint


@click.group("data")
def command() -> None:
    """Give versions of data sets digests, and compare them."""


@command.command("fingerprint")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option(
    "-o", "--output", type=PATH, metavar="NAME.json", help="Save the fingerprint of one PATH."
)
@force_option
@cache_option
@json_option
def fingerprint_verb(
    paths: tuple[Path, ...], output: Path | None, force: bool, cache: bool, as_json: bool
) -> None:
    """Print one digest for each folder or file: the version of that data set, exactly.

    It depends on names and contents only. Files that have not changed since the last time are not
    read again.
    """
    from mlopsc.data import digest_text, read_contents
    from mlopsc.data.scan import shown

    if output is not None:
        _check_output(output, paths, force)
    reports = []
    for path in paths:
        with _progress(path, quiet=as_json) as update:
            found = read_contents(path, cache=cache, progress=update)
        if output is not None:
            _save(found.fingerprint(), output, force)
        digest, count = digest_text(found.digest), len(found.files)
        if as_json:
            name = click.format_filename(path)
            summary = {"path": name, "digest": digest, "files": count, "bytes": found.nbytes}
            reports.append(summary)
        else:
            click.echo(f"{shown(str(path))}: {_counted(count)}, {size(found.nbytes)}")
            click.echo(f"  digest   {digest}")
    if as_json:
        echo_json(reports)


@command.command("diff")
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@click.option("--exit-code", is_flag=True, help="Fail if they differ.")
@cache_option
@json_option
def diff_verb(old: Path, new: Path, exit_code: bool, cache: bool, as_json: bool) -> None:
    """Print which files differ between two versions of a data set.

    OLD and NEW are saved fingerprints (NAME.json) or folders or files, which are fingerprinted.
    """
    from mlopsc.data import diff
    from mlopsc.errors import DataChangedError

    before, after = (_load(path, cache=cache, quiet=as_json) for path in (old, new))
    difference = diff(before, after)
    if as_json:
        echo_json({"old": before.digest, "new": after.digest, **asdict(difference)})
    else:
        for line in _lines(difference):
            click.echo(line)
    if exit_code and difference:
        raise DataChangedError(
            f"'{click.format_filename(new)}' has the digest {after.digest}; "
            f"expected that of '{click.format_filename(old)}', {before.digest}"
        )


def _load(path: Path, *, cache: bool, quiet: bool) -> Fingerprint:
    from mlopsc.data import FINGERPRINT_SUFFIX, read_contents, read_fingerprint

    if path.suffix == FINGERPRINT_SUFFIX and not path.is_dir():
        return read_fingerprint(path)
    with _progress(path, quiet=quiet) as update:
        return read_contents(path, cache=cache, progress=update).fingerprint()


def _lines(difference: Difference) -> Iterator[str]:
    from mlopsc.data.scan import shown

    for what in ("removed", "added", "changed"):
        for path in getattr(difference, what):
            yield f"{what:8}  {shown(path)}"
    for before, after in difference.renamed:
        yield f"renamed   {shown(before)} -> {shown(after)}"
    counts = {
        what: len(getattr(difference, what)) for what in ("added", "removed", "changed", "renamed")
    }
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    yield ", ".join([*parts, f"{difference.unchanged:,} unchanged"])


def _check_output(output: Path, paths: tuple[Path, ...], force: bool) -> None:
    """Refuse an output that cannot be written or is part of the data, before hours of hashing.

    Raises:
        click.UsageError: Several paths, or another suffix than that of saved fingerprints.
        OutputError: It exists, or lies in the data set.
    """
    from mlopsc.data import FINGERPRINT_SUFFIX
    from mlopsc.errors import OutputError
    from mlopsc.outputs import check_free

    if len(paths) > 1:
        raise click.UsageError("--output saves one fingerprint: give one PATH")
    if output.suffix != FINGERPRINT_SUFFIX:
        raise click.BadParameter(f"'{output}'; expected NAME{FINGERPRINT_SUFFIX}")
    if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(paths[0])):
        raise OutputError(
            f"output '{output}' lies in the data set '{paths[0]}', which it would change; "
            "expected a path outside"
        )
    check_free(output, force=force)


def _save(found: Fingerprint, output: Path, force: bool) -> None:
    from mlopsc.outputs import atomic_file

    with atomic_file(output, force=force) as path:
        path.write_text(found.to_json(), encoding="utf-8")


def _counted(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


@contextmanager
def _progress(path: Path, *, quiet: bool) -> Iterator[Progress]:
    """Show on standard error how far a fingerprint is."""
    name = click.format_filename(path)
    with progress(f"scanning {name}", quiet=quiet) as show:

        def update(files: int, hashed: int, total: int) -> None:
            done = f", {size(hashed)} of {size(total)}" if total else ""
            show(f"{name}: {_counted(files)}{done}")

        yield update
