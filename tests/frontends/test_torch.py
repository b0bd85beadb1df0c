"""The PyTorch frontend, with PyTorch: refusals, conversion failures, names, lineage."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support import check_words

import mlopsc
from mlopsc.errors import (
    ConversionError,
    DivergenceError,
    MlopscError,
    SourceError,
    UnsafeSourceError,
)
from mlopsc.frontends import LoadOptions, RawInput, frontend, recognise, wrap

pytestmark = [pytest.mark.framework("torch", "onnxscript"), pytest.mark.slow]
OPTIONS = LoadOptions()


def linear() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5))


def save(path: Path, training: bool = False, **extra: str) -> Path:
    import torch

    module = linear().train(training)
    batch = torch.export.Dim("batch", min=1, max=9)
    program = torch.export.export(module, (torch.ones(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path, extra_files=extra)
    return path


def test_a_file_is_imported_with_what_it_knows(tmp_path: Path) -> None:
    import torch

    path = save(tmp_path / "m.pt2", **{"run.json": '{"epochs": 3}'})
    manifest = mlopsc.import_model(path, tmp_path / "m.mlb").manifest
    assert [(i.name, i.shape) for i in manifest.inputs] == [("input", (1, 4))]
    assert [(o.name, o.shape) for o in manifest.outputs] == [("output", (1, 3))]
    check = manifest.framework
    assert check is not None
    assert check.compared
    assert check.drawn > 0
    assert check.written_by == f"torch {torch.__version__}"
    assert check.converter.startswith("torch ")


def test_original_file_says_what_trained_it(tmp_path: Path) -> None:
    path = save(tmp_path / "m.pt2", **{"run.json": '{"epochs": 3}'})
    original = frontend("torch").load(path, OPTIONS)
    assert original.configuration == {"extra_files": {"run.json": {"epochs": 3}}}
    assert [f.name for f in original.frameworks] == ["torch"]


def test_training_mode_is_refused_in_files_and_left_alone_in_memory(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        frontend("torch").load(save(tmp_path / "m.pt2", training=True), OPTIONS)
    check_words(caught.value.message, caught.value.hint, "training mode", "model.eval()")
    module = linear().train()
    _, original = wrap(module, np.ones((1, 4), np.float32), OPTIONS)
    (tmp_path / "out").mkdir()
    original.export(tmp_path / "out", OPTIONS)
    sample = {"input": np.ones((1, 4), np.float32)}
    assert np.array_equal(original.run(sample)["output"], original.run(sample)["output"])
    assert all(part.training for part in module.modules())


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    path, bad = save(tmp_path / "m.pt2"), tmp_path / "bad.pt2"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("model.json"):
                attack = f"[open('{evil}', 'w')]"
                program = json.loads(data)
                program["guards_code"] = [attack]
                text = json.dumps(program)
                data = text.replace("Symbol('", f"{attack}[0].Symbol('").encode()
                assert data != text.encode()
            new.writestr(name, data)
    with pytest.raises(UnsafeSourceError):
        mlopsc.import_model(bad, tmp_path / "m.mlb")
    assert not evil.exists()


def test_damaged_files_give_one_error(tmp_path: Path) -> None:
    data = save(tmp_path / "m.pt2").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(40):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 1 + number % 5):
            damaged[place] = rng.integers(256)
        path = tmp_path / f"{number}.pt2"
        path.write_bytes(damaged[: len(data) - number if number % 2 else None])
        try:
            found = recognise(path)
            original = frontend(found.framework).load(path, OPTIONS)
        except MlopscError:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        original.export(folder, OPTIONS)


def test_torchscript_and_modules_without_example_are_refused() -> None:
    import torch

    with pytest.raises(SourceError, match="TorchScript"):
        wrap(torch.jit.trace(linear().eval(), torch.ones(1, 4)), torch.ones(1, 4), OPTIONS)
    with pytest.raises(SourceError) as caught:
        wrap(linear(), None, OPTIONS)
    check_words(caught.value.message, caught.value.hint, "Sequential", "example=")


def test_failures_are_told_with_version_and_operator(tmp_path: Path) -> None:
    import torch

    class Branches(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    class Exotic(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.eigvalsh(x)

    with pytest.raises(ConversionError) as caught:
        wrap(Branches(), torch.ones(1, 4), OPTIONS)
    check_words(caught.value.message, caught.value.hint, f"torch {torch.__version__}", "Branches")
    _, original = wrap(Exotic(), torch.eye(3), OPTIONS)
    with pytest.raises(ConversionError) as caught:
        original.export(tmp_path, OPTIONS)
    check_words(
        caught.value.message, caught.value.hint, f"torch {torch.__version__}", "linalg_eigh"
    )


def test_a_wrong_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    module = linear().eval()
    export = torch.onnx.export

    def wrong(program: Any, *args: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            program.state_dict["0.bias"].add_(0.1)
        export(program, *args, **kwargs)
        with torch.no_grad():
            program.state_dict["0.bias"].sub_(0.1)

    monkeypatch.setattr(torch.onnx, "export", wrong)
    with pytest.raises(DivergenceError, match="output 'output'"):
        mlopsc.import_model(module, tmp_path / "m.mlb", example=torch.ones(1, 4))


def test_integers_are_drawn_from_the_range_of_the_example() -> None:
    import torch

    module = torch.nn.Embedding(50, 4)
    _, original = wrap(module, torch.tensor([[7, 42, 9]]), OPTIONS)
    rng = np.random.default_rng(0)
    drawn = original.draw(rng, [RawInput("input", "int64", (1, 300))], last=False)["input"]
    assert (drawn.min(), drawn.max()) == (7, 42)


def test_inputs_are_those_of_forward_and_state_is_told(tmp_path: Path) -> None:
    import torch

    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Any, unused: Any, times: int = 2) -> Any:
            self.count.add_(1)
            return x * times, {"sum": x + self.count}, None

    same = torch.ones(1, 3, dtype=torch.bfloat16)
    _, original = wrap(Counting(), (same, same, 3), OPTIONS)
    exported = original.export(tmp_path, OPTIONS)
    assert [note.split()[0] for note in exported.notes] == ["'count'"]
    ones = np.ones((1, 3), ml_dtypes.bfloat16)
    for _ in range(2):
        answer = original.run({"x": ones, "unused": ones})
        assert {n: float(a[0, 0]) for n, a in answer.items()} == {
            "output_0": 3, "output_1_sum": 2
        }  # fmt: skip
