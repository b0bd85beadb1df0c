"""``mlopsc import SOURCE -o NAME.mlb`` and ``mlopsc import --check SOURCE``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlopsc.cli.options import (
    PATH,
    cache_option,
    collect_import_options,
    force_option,
    import_options,
    json_option,
)
from mlopsc.cli.render import echo_json, progress, size

if TYPE_CHECKING:
    from mlopsc.pipeline import Verdict


@click.command("import")
@click.argument("source", metavar="PATH", type=PATH)
@click.option("-o", "--output", type=PATH, help="The bundle, NAME.mlb.")
@click.option("--check", is_flag=True, help="Only say whether it can be imported, or all reasons.")
@import_options
@force_option
@cache_option
@json_option
def command(
    source: Path,
    output: Path | None,
    check: bool,
    force: bool,
    cache: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Import a model of any framework into a bundle that knows nothing of any target.

    What PATH is, is recognised by its content; docs/frontends.md lists what is accepted.

    With --check nothing is written: the verdict, the reasons and the exit code are those of the
    import.
    """
    from mlopsc import pipeline
    from mlopsc.documents import lineage_of
    from mlopsc.pipeline import UNCHANGED

    if check:
        if output is not None or force:
            raise click.UsageError("--check writes nothing: leave out --output and --force")
        with progress(f"checking {source}", quiet=as_json):
            verdict = pipeline.check_model(source, collect_import_options(options))
        _report(source, verdict, as_json)
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'.")
    with progress(f"importing {source}", quiet=as_json) as update:
        bundle = pipeline.import_model(
            source,
            output,
            collect_import_options(options),
            force=force,
            cache=cache,
            progress=lambda target, what: update(f"{target}: {what}", keep=what == UNCHANGED),
        )
    manifest = bundle.manifest
    if as_json:
        echo_json(
            {"bundle": str(output), "digest": bundle.digest, **manifest.model_dump(mode="json")}
        )
        return
    click.echo(f"{output}: {manifest.name} {manifest.version}, {size(output.stat().st_size)}")
    click.echo(f"  digest   {bundle.digest}")
    framework = manifest.framework
    click.echo(f"  source   {'ONNX model' if framework is None else framework.what}")
    for spec in manifest.inputs:
        click.echo(f"  input    {spec}")
    for spec in manifest.outputs:
        click.echo(f"  output   {spec}")
    click.echo(f"  vectors  {manifest.vectors.count} {manifest.vectors.origin}")
    if framework is not None:
        for found in framework.preprocessing:
            click.echo(f"  found    {found}: in the preprocessing stage")
        for found in framework.postprocessing:
            click.echo(f"  found    {found}: in the postprocessing stage")
        click.echo(f"  original {framework}")
        for note in framework.notes:
            click.echo(f"  warning  {note}", err=True)
    if manifest.integers is not None:
        click.echo(f"  integers {manifest.integers} ({manifest.vectors.arithmetic})")
    lineage = lineage_of(bundle.documents)
    data = [] if lineage is None else [entry.name for entry in lineage.datasets]
    unknown = "no data sets known: 'mlopsc init' writes a lineage.yaml to complete"
    click.echo(f"  lineage  {', '.join(data) or unknown}")
    if manifest.trained_with is not None:
        click.echo(f"  trained  with this preprocessing, {manifest.trained_with}")
    for stage in manifest.stages:
        bound = ", ".join(f"{k}={v}" for k, v in stage.bound.items())
        click.echo(
            f"  stage    {stage.name}: {stage.nodes} nodes, {stage.parameters} parameters"
            + (f", bound {bound}" if bound else "")
        )
        for finding in stage.findings:
            click.echo(f"  warning  {finding}", err=True)


def _report(source: Path, verdict: Verdict, as_json: bool) -> None:
    """Print the verdict and end with the exit code that the import would have."""
    problems = verdict.problems
    if as_json:
        found = [
            {
                "kind": type(problem).__name__,
                "exit_code": problem.exit_code,
                "message": problem.message,
                "hint": problem.hint,
                "node": problem.node,
                "op": problem.op,
            }
            for problem in problems
        ]
        echo_json(
            {
                "source": str(source),
                "what": verdict.what,
                "verdict": "refused" if problems else "ok",
                "problems": found,
                "inputs": verdict.inputs,
                "outputs": verdict.outputs,
                "operators": [asdict(use) for use in verdict.operators],
            }
        )
    elif problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        click.echo(f"{source}: {verdict.what or 'not recognised'}; refused, {count}")
        for problem in problems:
            click.echo(f"  {problem.message}\n    next: {problem.hint}")
    else:
        click.echo(f"{source}: {verdict.what}; ok")
        for spec in verdict.inputs:
            click.echo(f"  input    {spec}")
        for spec in verdict.outputs:
            click.echo(f"  output   {spec}")
        for use in verdict.operators:
            click.echo(f"  {use.nodes:6} {use.op}: {', '.join(use.types)}")
    if problems:
        sys.exit(problems[0].exit_code)
