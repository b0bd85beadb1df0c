"""Walks backwards from a package or bundle to everything that it was made of.

The way is in the artefact itself: a package keeps the manifest, lineage and provenance of its
bundle, and digests tie each to the next. Nothing is looked up, and nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlopsc.schema.attestation import Provenance, provenance_of
from mlopsc.schema.bundle import PROVENANCE_FILE, Manifest
from mlopsc.schema.common import Digest
from mlopsc.schema.lineage import Lineage
from mlopsc.schema.package import BUNDLE_FOLDER
from mlopsc.trust.artefact import Artefact, open_artefact
from mlopsc.trust.model_signature import named_signer


@dataclass(frozen=True)
class Node:
    """One thing on the way back.

    Attributes:
        kind: ``package``, ``bundle``, ``graph``, ``dataset``, ``code``, ``model``, ``tool``,
            ``decision``, ``metric``, ``test``, ``signature`` or ``file``.
        name: What it is called.
        digest: Of it, where it has one.
        facts: What is known of it, in the order in which it is told.
        made_of: What it was made of.
    """

    kind: str
    name: str
    digest: Digest | None = None
    facts: dict[str, str] = field(default_factory=dict)
    made_of: tuple[Node, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "digest": self.digest,
            "facts": self.facts,
            "made_of": [node.to_dict() for node in self.made_of],
        }


def trace(path: Path) -> Node:
    """Return the artefact at ``path`` and everything that it was made of.

    Raises:
        BrokenBundleError, BrokenPackageError, FormatVersionError: It is not whole.
    """
    artefact = open_artefact(path)
    return _package(artefact) if artefact.package is not None else _bundle(artefact, top=True)


def _package(artefact: Artefact) -> Node:
    info = artefact.require_package().info
    made = _provenance(artefact.statements.get(PROVENANCE_FILE))
    parts = [_bundle(artefact, top=False)]
    facts = {"target": f"{info.target.name}: {info.target.description}"}
    if made is not None:
        options = made.build_definition.external_parameters.get("options", {})
        if isinstance(options, dict):
            parts += _decisions({n: v for n, v in options.items() if v not in ([], None)})
        signer = made.build_definition.internal_parameters.get("bundleSigner")
        parts.append(Node("decision", "signature of the bundle", facts={"was": str(signer)}))
        parts += _tools(made)
    if artefact.report is not None:
        report = artefact.report
        tested = {
            "verdict": report.verdict,
            "vectors": str(report.vectors),
            "runner": report.runner,
            "reference": report.reference,
        }
        parts.append(Node("test", "conformance", facts=tested))
    libraries = [f for f in info.files if f.path.startswith("lib/")]
    facts |= {entry.path: entry.digest for entry in libraries}
    return Node(
        "package",
        f"{info.name} {info.version}",
        artefact.digest,
        facts,
        (*_signature(artefact), *parts),
    )


def _bundle(artefact: Artefact, *, top: bool) -> Node:
    """Return the bundle that ``artefact`` is (``top``), or that it was built from."""
    manifest = artefact.manifest
    digest = artefact.digest if top else artefact.require_package().info.bundle
    if manifest is None:
        unknown = {"unknown": "packages of format version 1 keep nothing of their bundle"}
        return Node("bundle", f"{artefact.name} {artefact.version}", digest, unknown)
    name = PROVENANCE_FILE if top else f"{BUNDLE_FOLDER}/{PROVENANCE_FILE}"
    made = _provenance(artefact.statements.get(name))
    parts: list[Node] = _signature(artefact) if top else []
    parts += _graphs(manifest, artefact.lineage)
    if made is not None:
        parts += _decisions(made.build_definition.external_parameters)
        parts += [
            Node(str((r.annotations or {}).get("kind", "file")), r.name, r.sha256)
            for r in made.build_definition.resolved_dependencies
            if (r.annotations or {}).get("kind") != "graph"
        ]
        parts += _tools(made)
    vectors = manifest.vectors
    tested = {
        "count": str(vectors.count),
        "origin": vectors.origin,
        "answered by": vectors.reference,
    }
    parts.append(Node("test", "vectors", facts=tested))
    facts = {"made by": manifest.created_by}
    return Node("bundle", f"{manifest.name} {manifest.version}", digest, facts, tuple(parts))


def _graphs(manifest: Manifest, lineage: Lineage | None) -> list[Node]:
    nodes = []
    for stage in manifest.stages:
        facts = {"exported by": stage.source.producer or "unknown"}
        facts |= {f"bound {name}": str(size) for name, size in stage.bound.items()}
        facts |= {"note": "; ".join(stage.findings)} if stage.findings else {}
        history: tuple[Node, ...] = ()
        if stage.name == "model" and lineage is not None:
            history = tuple(_history(lineage))
        if stage.name == "preprocess" and manifest.trained_with is not None:
            facts["trained the model"] = manifest.trained_with
        nodes.append(Node("graph", stage.name, stage.source.digest, facts, history))
    return nodes


def _history(lineage: Lineage) -> list[Node]:
    nodes = []
    about = lineage.model
    facts = _known(
        {"licence": about.licence, "owner": about.owner, "task": about.task,
         "description": about.description}
    )  # fmt: skip
    if facts:
        nodes.append(Node("decision", "model", facts=facts))
    nodes += [
        Node(
            "dataset",
            f"{data.name} {data.version}".rstrip(),
            data.digest,
            _known(
                {
                    "role": data.role,
                    "licence": data.licence,
                    "sensitivity": data.sensitivity or "",
                    "owner": data.owner,
                    "url": data.url,
                }
            ),
        )
        for data in lineage.datasets
    ]
    code = lineage.code
    if code.repository or code.commit or code.entry_point:
        state = {None: "", True: "yes", False: "no"}[code.dirty]
        facts = _known({"commit": code.commit, "dirty": state, "entry point": code.entry_point})
        nodes.append(Node("code", code.repository or "unknown repository", facts=facts))
    if lineage.configuration:
        shown = {name: str(value) for name, value in sorted(lineage.configuration.items())}
        nodes.append(Node("decision", "configuration", facts=shown))
    nodes += [Node("tool", f"{f.name} {f.version}".rstrip()) for f in lineage.frameworks]
    nodes += [
        Node(
            "model",
            parent.name,
            parent.digest,
            {"relation": parent.relation, "its history": "is in its own bundle: trace that"},
        )
        for parent in lineage.parents
    ]
    nodes += [
        Node(
            "metric",
            f"{m.name} = {m.value:g}",
            facts=_known({"data set": m.dataset, "slice": m.slice}),
        )
        for m in lineage.metrics
    ]
    return nodes


def _signature(artefact: Artefact) -> list[Node]:
    signer = named_signer(artefact.signatures)
    if signer is None:
        return []
    return [Node("signature", "signed by", signer, {"note": "checked by 'mlopsc verify'"})]


def _decisions(parameters: dict[str, Any]) -> list[Node]:
    known = {n: str(v) for n, v in sorted(parameters.items()) if v not in (None, {}, [], "")}
    known.pop("target", None)
    return [Node("decision", "options", facts=known)] if known else []


def _tools(made: Provenance) -> list[Node]:
    return [Node("tool", f"{n} {v}") for n, v in made.run_details.builder.version.items()]


def _provenance(data: bytes | None) -> Provenance | None:
    if data is None:
        return None
    return provenance_of(data)


def _known(facts: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in facts.items() if value}


def walk(node: Node) -> Iterable[Node]:
    """Yield ``node`` and everything below it."""
    yield node
    for part in node.made_of:
        yield from walk(part)
