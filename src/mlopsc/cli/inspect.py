"""``mlopsc inspect BUNDLE|PACKAGE``."""

from __future__ import annotations

from pathlib import Path

import click

from mlopsc.cli.options import PATH, json_option
from mlopsc.cli.render import echo_json, echo_table, size


@click.command("inspect")
@click.argument("artefact", type=PATH)
@json_option
def command(artefact: Path, as_json: bool) -> None:
    """Describe a bundle or a package, after checking that it is whole."""
    if artefact.is_dir():
        _package(artefact, as_json)
    else:
        _bundle(artefact, as_json)


def _bundle(path: Path, as_json: bool) -> None:
    from mlopsc.bundle import read_bundle

    bundle = read_bundle(path)
    manifest = bundle.manifest
    if as_json:
        echo_json({"digest": bundle.digest, **manifest.model_dump(mode="json")})
        return
    rows = [
        ["kind", "bundle"],
        ["name", f"{manifest.name} {manifest.version}"],
        ["digest", bundle.digest],
        *(["input", str(s)] for s in manifest.inputs),
        *(["output", str(s)] for s in manifest.outputs),
        ["vectors", f"{manifest.vectors.count} {manifest.vectors.origin}, answered by "
         f"{manifest.vectors.reference}"],
    ]  # fmt: skip
    for stage in manifest.stages:
        text = f"{stage.nodes} nodes, {stage.parameters} parameters, opset {stage.opset}"
        rows.append([f"stage {stage.name}", text])
        rows += [["", f"source {stage.source.digest} {stage.source.producer}"]]
        rows += [["finding", finding] for finding in stage.findings]
    echo_table(str(path), ["", ""], rows)


def _package(path: Path, as_json: bool) -> None:
    from mlopsc.package_reader import read_package
    from mlopsc.schema.conformance import ConformanceReport
    from mlopsc.schema.package import REPORT_FILE

    package = read_package(path)
    info, memory = package.info, package.info.memory
    if as_json:
        echo_json({"digest": package.digest, **info.model_dump(mode="json")})
        return
    report = "not run yet"
    if (path / REPORT_FILE).is_file():
        try:
            read = ConformanceReport.from_file(path / REPORT_FILE)
        except (OSError, ValueError):
            report = f"{REPORT_FILE} is damaged; run 'mlopsc conform' again"
        else:
            current = "" if read.model_json == package.digest else " (of another build)"
            report = f"{read.verdict}{current}, {read.vectors} vectors, {read.runner}"
    rows = [
        ["kind", "package"],
        ["name", f"{info.name} {info.version}"],
        ["target", f"{info.target.name}: {info.target.description}"],
        ["bundle", info.bundle],
        *(["input", str(s)] for s in info.inputs),
        *(["output", str(s)] for s in info.outputs),
        ["kernels", f"{len(info.kernels)} functions, {sum(k.calls for k in info.kernels)} calls, "
         f"generator {info.generator}, schedule {info.schedule}, accuracy {info.accuracy}"],
        ["flash", f"{size(memory.code)} code, {size(memory.read_only)} constants"],
        ["arena", f"{size(memory.arena)} (no plan is below {size(memory.arena_lower_bound)})"],
        ["libraries", ", ".join(filter(None, (info.static_library, info.shared_library)))],
        ["expects", ", ".join(info.undefined_symbols) or "nothing"],
        ["tools", ", ".join(f"{t.name} {t.version}" for t in info.tools)],
        ["conformance", report],
    ]  # fmt: skip
    echo_table(str(path), ["", ""], rows)
