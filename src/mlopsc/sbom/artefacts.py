"""What the bills of materials of bundles and packages list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cyclonedx.model import ExternalReferenceType
from cyclonedx.model.component import Component, Pedigree

from mlopsc.sbom.document import write_document
from mlopsc.sbom.inventory import Inventory, Kind, reference
from mlopsc.sbom.model_card import dataset_data, model_card
from mlopsc.schema.bundle import STAGES, Manifest, StageRecord
from mlopsc.schema.common import FileEntry, TensorSpec
from mlopsc.schema.graph import weights_name
from mlopsc.schema.lineage import Dataset, Lineage
from mlopsc.schema.package import Package
from mlopsc.schema.sbom import Ingredient

_PART_OF_LIBRARY: Final = ("kernel", "generated", "runtime")  # their licences are the library's
_FROM_MODEL: Final = ("kernel", "generated")  # without a licence of their own they have the model's


@dataclass(frozen=True)
class _Model:
    """What an artefact says of its model.

    Attributes:
        name: Of the model.
        version: The user's.
        inputs: Raw inputs.
        outputs: Outputs of the last stage.
        reference: Name and version of the reference runtime.
        created_by: What imported it, or "".
        stages: Its graphs, where they are known.
        members: The files of a bundle that hold them.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: str
    created_by: str = ""
    stages: tuple[StageRecord, ...] = ()
    members: tuple[FileEntry, ...] = ()


def bundle_sbom(manifest: Manifest, lineage: Lineage | None) -> str:
    """Return the bill of materials of a bundle: a CycloneDX 1.6 document about its model.

    Args:
        manifest: Of the bundle; lists every member but the bill itself.
        lineage: How the model came to be, as far as it is known.

    Raises:
        InputError: ``SOURCE_DATE_EPOCH`` is no time.
    """
    inventory = Inventory()
    model = _of_bundle(manifest)
    root, needs = _add_model(inventory, model, lineage or Lineage())
    needs += _add_files(inventory, [e for e in manifest.files if e not in model.members])
    return write_document(root, inventory, {_ref(root): needs})


def package_sbom(
    package: Package,
    manifest: Manifest | None,
    lineage: Lineage | None,
    ingredients: Sequence[Ingredient],
) -> str:
    """Return the bill of materials of a package: a CycloneDX 1.6 document about its library.

    Args:
        package: Its descriptor; lists every file but the bill itself.
        manifest: Of the bundle it was built from; None if that is not at hand.
        lineage: How the model came to be, as far as it is known.
        ingredients: What went into the library, and what made it.

    Raises:
        InputError: ``SOURCE_DATE_EPOCH`` is no time.
    """
    inventory = Inventory()
    history = lineage or Lineage()
    licence = history.model.licence
    own = [_licence(ingredient, licence) for ingredient in ingredients]
    linked = [
        text
        for ingredient, text in zip(ingredients, own, strict=True)
        if ingredient.kind in _PART_OF_LIBRARY
    ]
    # What is not all known is unknown: a part of the licences would be read as the whole.
    whole = [licence, *linked] if licence and all(linked) else []
    root = inventory.make(
        "package",
        package.name,
        version=package.version,
        licences=whole,
        owner=history.model.owner,
        properties=_target_facts(package),
    )
    model = _of_package(package) if manifest is None else _of_bundle(manifest)
    component, model_needs = _add_model(inventory, model, history)
    inventory.add(component)
    needs = [component, *_add_files(inventory, package.files)]
    needs += [
        inventory.add(
            inventory.make(
                ingredient.kind,
                ingredient.name,
                version=ingredient.version,
                licences=[text],
                digests=[ingredient.digest],
            )
        )
        for ingredient, text in zip(ingredients, own, strict=True)
    ]
    return write_document(root, inventory, {_ref(root): needs, _ref(component): model_needs})


def _of_bundle(manifest: Manifest) -> _Model:
    names = {name for stage in STAGES for name in (f"{stage}.onnx", weights_name(stage))}
    return _Model(
        manifest.name,
        manifest.version,
        manifest.inputs,
        manifest.outputs,
        manifest.vectors.reference,
        manifest.created_by,
        manifest.stages,
        tuple(entry for entry in manifest.files if entry.path in names),
    )


def _of_package(package: Package) -> _Model:
    return _Model(
        package.name,
        package.version,
        package.inputs,
        package.outputs,
        package.vectors.reference,
    )


def _licence(ingredient: Ingredient, of_model: str) -> str:
    return ingredient.licence or (of_model if ingredient.kind in _FROM_MODEL else "")


def _target_facts(package: Package) -> dict[str, str]:
    target = package.target
    return {
        "mlopsc:abi": str(package.abi_version),
        "mlopsc:accuracy": package.accuracy,
        "mlopsc:bundle": package.bundle,
        "mlopsc:generator": package.generator,
        "mlopsc:schedule": package.schedule,
        "mlopsc:target": target.name,
        "mlopsc:target:cpu": target.compile.cpu,
        "mlopsc:target:triple": target.compile.triple,
    }


def _add_model(
    inventory: Inventory, model: _Model, lineage: Lineage
) -> tuple[Component, list[Component]]:
    """Return the model's component, not listed yet, and what it consists of and was made with."""
    facts = lineage.model
    code = lineage.code
    commit = f"commit {code.commit}" if code.commit else ""
    vcs = reference(ExternalReferenceType.VCS, code.repository, commit)
    dirty = {True: "files differ from the commit", False: "as committed", None: ""}
    own = {"model.onnx", weights_name("model")}
    root = inventory.make(
        "model",
        model.name,
        version=model.version,
        licences=[facts.licence],
        digests=[entry.digest for entry in model.members if entry.path in own],
        description=facts.description,
        owner=facts.owner,
        url=vcs,
        properties={
            "mlopsc:created-by": model.created_by,
            "mlopsc:code:commit": code.commit,
            "mlopsc:code:entry-point": code.entry_point,
            "mlopsc:code:repository": "" if vcs else code.repository,
            "mlopsc:code:state": dirty[code.dirty],
            "mlopsc:preprocessing": lineage.preprocessing or "",
        },
    )
    parents = [
        inventory.make(
            "parent",
            parent.name,
            digests=[parent.digest],
            properties={"mlopsc:relation": parent.relation},
        )
        for parent in lineage.parents
    ]
    if parents:
        root.pedigree = Pedigree(ancestors=parents)
    datasets = [_add_dataset(inventory, dataset) for dataset in lineage.datasets]
    inventory.fields[_ref(root)] = {
        "modelCard": model_card(lineage, model.inputs, model.outputs, [*map(_ref, datasets)])
    }
    return root, [
        *_add_graphs(inventory, model),
        *datasets,
        *_add_programs(inventory, model, lineage),
    ]


def _add_graphs(inventory: Inventory, model: _Model) -> list[Component]:
    """List the files that hold the graphs and weights of all stages."""
    made = []
    for entry in model.members:
        stage = entry.path.partition(".")[0]
        facts = {"mlopsc:stage": stage, "mlopsc:size": str(entry.size)}
        for record in model.stages:
            if record.name == stage and entry.path.endswith(".onnx"):
                facts["mlopsc:source"] = record.source.digest
                facts["mlopsc:frontend"] = record.source.framework
                facts["mlopsc:producer"] = record.source.producer
        made.append(
            inventory.make(
                "graph",
                entry.path,
                digests=[entry.digest],
                media_type=entry.media_type,
                properties=facts,
            )
        )
    return [inventory.add(component) for component in made]


def _add_files(inventory: Inventory, entries: Sequence[FileEntry]) -> list[Component]:
    return [
        inventory.add(
            inventory.make(
                "file",
                entry.path,
                digests=[entry.digest],
                media_type=entry.media_type,
                properties={"mlopsc:size": str(entry.size)},
            )
        )
        for entry in entries
    ]


def _add_dataset(inventory: Inventory, dataset: Dataset) -> Component:
    link = reference(ExternalReferenceType.DOCUMENTATION, dataset.url)
    component = inventory.make(
        "dataset",
        dataset.name,
        version=dataset.version,
        licences=[dataset.licence],
        digests=[dataset.digest],
        url=link,
        properties={"mlopsc:role": dataset.role, "mlopsc:url": "" if link else dataset.url},
    )
    inventory.fields[_ref(component)] = {"data": dataset_data(dataset)}
    return inventory.add(component)


def _add_programs(inventory: Inventory, model: _Model, lineage: Lineage) -> list[Component]:
    """List what trained, exported and judged the model, each once."""
    frameworks = dict.fromkeys((f.name, f.version) for f in lineage.frameworks)
    producers = dict.fromkeys(filter(None, (s.source.producer for s in model.stages)))
    exporters = [_split(producer) for producer in producers]
    wanted: list[tuple[Kind, str, str]] = [
        *(("framework", name, version) for name, version in frameworks),
        *(("exporter", name, version) for name, version in exporters),
        ("reference", *_split(model.reference)),
    ]
    return [
        inventory.add(inventory.make(kind, name, version=version)) for kind, name, version in wanted
    ]


def _split(text: str) -> tuple[str, str]:
    """Return the name and the version of ``NAME VERSION``; the version may be missing."""
    name, _, version = text.rpartition(" ")
    return (name, version) if name else (text, "")


def _ref(component: Component) -> str:
    return component.bom_ref.value or ""
