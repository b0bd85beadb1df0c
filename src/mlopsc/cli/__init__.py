"""The command line: parses, calls the pipeline, renders. One file per verb, loaded when used.

The only place that catches ``MlopscError``: its message goes to standard error and its exit code to
the caller. Results go to standard output; with ``--json`` they are one JSON document.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from mlopsc._version import __version__
from mlopsc.cli.render import visible
from mlopsc.errors import MlopscError, OutputError

INTERRUPTED = 130
_interrupted = False

_VERBS = {
    "init": ("init", "Write a lineage.yaml to edit: how a model came to be."),
    "preprocess": ("preprocess", "Write the ONNX file of steps or of a Python function."),
    "import": ("import_verb", "Import a framework's model into a bundle."),
    "quantize": ("quantize", "Quantise a float model, and say what that costs."),
    "build": ("build", "Build a package for each target from a bundle or a model."),
    "fit": ("fit", "Say whether a model fits a board, before anything is flashed."),
    "conform": ("conform", "Prove packages against the reference runtime."),
    "run": ("run", "Run a package on your arrays, on whatever it was built for."),
    "inspect": ("inspect", "Describe a bundle or a package."),
    "sbom": ("sbom", "Print the bill of materials of a bundle or a package."),
    "keygen": ("keygen", "Make a pair of keys to sign with."),
    "sign": ("sign", "Sign bundles and packages."),
    "verify": ("verify", "Check signature, lock-step and revocation of a bundle or package."),
    "trace": ("trace", "Walk back to every data set, commit, tool and decision."),
    "rebuild": ("rebuild", "Build a package again and compare every byte."),
    "revoke": ("revoke", "Revoke a data set, bundle, package, model or key."),
    "affected": ("affected", "List every artefact that was made of something."),
    "log": ("log", "Show or verify who did what, and when."),
    "migrate": ("migrate", "Bring a bundle or package to today's format version."),
    "targets": ("targets", "List the targets, or show one."),
    "data": ("data", "Give versions of data sets digests, and compare them."),
    "cache": ("cache", "Show the cache of what was imported and built, or clear it."),
}


class _Verbs(click.Group):
    """Loads a verb's module only when the verb is called, so that --help is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order they are used."""
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb."""
        del ctx
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"mlopsc.cli.{_VERBS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlopsc")
def cli() -> None:
    """Compile models into proven, runtime-free C libraries for any machine.

    A model goes import -> build -> conform. Exit codes are listed in docs/errors.md.
    """


def main() -> NoReturn:
    """Run the command line and exit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MlopscError as error:
        click.echo(f"mlopsc: error: {visible(error.message)}", err=True)
        if error.hint:
            click.echo(f"  next: {visible(error.hint)}", err=True)
        if error.also:
            more = f"and {len(error.also)} more; 'mlopsc import --check' lists all problems"
            click.echo(f"  {more}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, for instance
        if _interrupted:
            _leave_interrupted()
        click.echo(f"mlopsc: error: {error.strerror or error}: {error.filename or ''}", err=True)
        click.echo("  next: check space and permissions of the disk", err=True)
        sys.exit(OutputError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _leave_interrupted()
    except Exception as error:  # a bug of ours, or a library cut short by an interrupt
        if _interrupted:
            _leave_interrupted()
        if os.environ.get("MLOPSC_TRACEBACK"):
            raise
        click.echo(f"mlopsc: internal error: {type(error).__name__}: {error}", err=True)
        click.echo("  next: report it, with what MLOPSC_TRACEBACK=1 prints", err=True)
        sys.exit(1)
    sys.exit(0)


def _leave_interrupted() -> NoReturn:
    click.echo("mlopsc: interrupted; nothing was written", err=True)
    sys.exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop our workers, then unwind so that clean-up runs; the same for Ctrl-C and SIGTERM."""
    del number, frame
    from mlopsc.tools import stop_workers

    global _interrupted
    _interrupted = True
    stop_workers()
    raise KeyboardInterrupt
