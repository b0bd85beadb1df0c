"""Artefacts by somebody who wishes us harm and signs nothing: they may pass, but never crash us."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tampered_bundles
import tampered_packages
from support import check_words
from workshop import MANIFEST, SIGNATURES, Workshop, copy, digest, open_workshop, relisted

from mlopsc import pipeline
from mlopsc.errors import MlopscError
from mlopsc.materials import sbom_of
from mlopsc.rebuild import rebuild
from mlopsc.schema.common import canonical_json
from mlopsc.schema.target import Target
from mlopsc.tracing import trace
from mlopsc.trust.policy import TrustOptions, verify

COUNT = 150
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 10**25, "", "x", "\n\x1b[2J", [], [1], {}, {"a": 1}, ["x"],
    float("nan"), "sha256:" + "0" * 64,
]  # fmt: skip


@pytest.fixture(scope="module")
def shop(digits_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return open_workshop(digits_folder, tmp_path_factory.mktemp("workshop"))


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return where every value of a document stands."""
    steps = node.items() if isinstance(node, dict) else enumerate(node)
    found = [(node, step) for step, _ in steps]
    inner = [value for value in (node.values() if isinstance(node, dict) else node)
             if isinstance(value, dict | list)]  # fmt: skip
    return found + [place for value in inner for place in places(value)]


def mutated(document: Any, chance: random.Random) -> bytes:
    """Return a canonical document in which something is replaced, removed, added or doubled."""
    made = json.loads(json.dumps(document))
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        node, step = chance.choice(places(made))
        kind = chance.random()
        if kind < 0.6:
            node[step] = deepcopy(chance.choice(VALUES))
        elif kind < 0.8:
            del node[step]
        elif isinstance(node, dict):
            node["more"] = deepcopy(chance.choice(VALUES))
        else:
            node.append(deepcopy(node[step]))
    return canonical_json(made).encode()


def damaged(data: bytes, chance: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(chance.choice([1, 2, 8])):
        at, kind = chance.randrange(len(made)), chance.random()
        if kind < 0.6:
            made[at] = chance.randrange(256)
        elif kind < 0.8:
            made[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            del made[at + 1 : at + chance.randrange(2, 9)]
    return bytes(made)


def survives(what: str, use: Callable[[], object]) -> None:
    try:
        use()
    except MlopscError as error:
        check_words(error.message, error.hint or "expected")
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def mutant_bundle(shop: Workshop, chance: random.Random) -> tuple[str, bytes]:
    parts = {name: data for name, data in shop.parts.items() if name not in SIGNATURES}
    name = chance.choice(list(parts))
    is_json = name.endswith(".json")
    change = mutated(json.loads(parts[name]), chance) if is_json else damaged(parts[name], chance)
    made = {**parts, name: change}
    if name != MANIFEST:
        made = relisted(made) if is_json else tampered_bundles.redocumented(made)
    return name, shop.assemble(made)


@pytest.mark.slow
def test_mutant_bundles(shop: Workshop, tmp_path: Path) -> None:
    for seed in range(COUNT):
        name, data = mutant_bundle(shop, random.Random(seed))  # noqa: S311 (repeatable)
        path = tampered_bundles.write(data, tmp_path / "m.mlb")
        what = f"seed {seed}, {name}"
        survives(what, lambda p=path: verify(p, TrustOptions(allow_unsigned=True)))
        survives(what, lambda p=path: trace(p))
        survives(what, lambda p=path: sbom_of(p))


def mutate_package(package: Path, name: str, chance: random.Random) -> None:
    """Change a document, and make everything agree with it."""
    shutil.rmtree(package / "signature")
    data = mutated(json.loads((package / name).read_bytes()), chance)
    (package / name).write_bytes(data)
    if name == "model.json":
        return
    if name != "provenance.json":
        tampered_packages.restate(package)
    changes = {"bundle": digest(data)} if name == "bundle/manifest.json" else {}
    tampered_packages.relist(package, **changes)
    if name != "conformance.json":
        tampered_packages.prove(package)


@pytest.mark.slow
def test_mutant_packages(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(source: Path, targets: list[Target], output: Path, **options: object) -> None:
        shutil.copytree(shop.package, output / targets[0].name)  # in the time of a copy

    monkeypatch.setattr(pipeline, "build_for", build)
    original = tmp_path / "original.mlb"
    original.write_bytes(shop.bundle)
    names = [name for name in shop.files() if name.endswith(".json")]
    assert len(names) == 7
    for seed in range(COUNT):
        chance = random.Random(seed)  # noqa: S311 (repeatable)
        name = chance.choice(names)
        package = copy(shop.package, tmp_path / "p")
        mutate_package(package, name, chance)
        what = f"seed {seed}, {name}"
        survives(what, lambda p=package: verify(p, TrustOptions(allow_unsigned=True)))
        survives(what, lambda p=package: trace(p))
        survives(what, lambda p=package: sbom_of(p))
        survives(what, lambda p=package, s=seed: rebuild(p, original, any_version=s % 2 == 0))
