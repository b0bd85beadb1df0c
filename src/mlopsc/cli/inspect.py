"""``mlopsc inspect BUNDLE|PACKAGE``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlopsc.cli.options import PATH, json_option
from mlopsc.cli.render import echo_json, echo_table, size

if TYPE_CHECKING:
    from mlopsc.schema.bundle import Manifest
    from mlopsc.schema.lineage import Lineage


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
    from mlopsc.trust.artefact import open_artefact

    artefact = open_artefact(path)
    bundle = artefact.require_bundle()
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
    rows += _framework(manifest)
    if manifest.integers is not None:
        rows.append(["integers", f"{manifest.integers} ({manifest.vectors.arithmetic})"])
    for stage in manifest.stages:
        text = f"{stage.nodes} nodes, {stage.parameters} parameters, opset {stage.opset}"
        rows.append([f"stage {stage.name}", text])
        rows += [["", f"source {stage.source.digest} {stage.source.producer}"]]
        rows += [["finding", finding] for finding in stage.findings]
    rows += _history(manifest, artefact.lineage, bundle.signatures)
    echo_table(str(path), ["", ""], rows)


def _framework(manifest: Manifest) -> list[list[str]]:
    """Return how the bundle compares with a framework's original."""
    check = manifest.framework
    if check is None:
        return []
    return [
        ["made of", check.what + (f", written by {check.written_by}" if check.written_by else "")],
        *(["converter", name] for name in (check.converter,) if name),
        *(["found", f"{text}: preprocessing"] for text in check.preprocessing),
        *(["found", f"{text}: postprocessing"] for text in check.postprocessing),
        ["original", str(check)],
        *(["note", text] for text in check.notes),
    ]


def _history(
    manifest: Manifest | None, lineage: Lineage | None, signatures: Mapping[str, bytes]
) -> list[list[str]]:
    """Return what is known of where the model came from, and who says to have signed."""
    from mlopsc.trust.model_signature import named_signer

    rows = []
    if manifest is not None:
        rows.append(["trained with", manifest.trained_with or "unknown preprocessing"])
    if lineage is not None:
        data = ", ".join(f"{d.name} {d.version}".rstrip() for d in lineage.datasets)
        rows += [["data", data or "unknown"], ["commit", lineage.code.commit or "unknown"]]
        rows.append(["licence", lineage.model.licence or "unknown"])
    signer = named_signer(signatures)
    return [*rows, ["signed by", f"{signer} (not checked)" if signer else "nobody"]]


def _package(path: Path, as_json: bool) -> None:
    from mlopsc.package_reader import read_package
    from mlopsc.schema.conformance import ConformanceReport
    from mlopsc.schema.package import REPORT_FILE
    from mlopsc.trust.artefact import bundle_side

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
    rows += _history(*bundle_side(package), package.signatures())
    echo_table(str(path), ["", ""], rows)
