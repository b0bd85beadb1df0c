"""Models of PyTorch: half of them as ``.pt2`` files, half of them as Modules in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matrix import Case, Source


def _module(make: Callable[[], tuple[Any, Any]]) -> Callable[[Path], Source]:
    """Return what gives a Module in memory, with its example."""

    def source(folder: Path) -> Source:
        del folder
        module, example = _made(make)
        return Source(module, {"example": example})

    return source


def _file(
    make: Callable[[], tuple[Any, Any]], dynamic: dict[str, dict[int, str]] | None = None
) -> Callable[[Path], Source]:
    """Return what gives a ``.pt2`` file; ``dynamic`` names the open dimensions of inputs."""

    def source(folder: Path) -> Source:
        import torch

        module, example = _made(make)
        shapes = dynamic and {
            name: {axis: torch.export.Dim(size, min=1, max=512) for axis, size in axes.items()}
            for name, axes in dynamic.items()
        }
        program = torch.export.export(module, example, dynamic_shapes=shapes)
        torch.export.save(program, folder / "model.pt2")
        return Source(folder / "model.pt2")

    return source


def _made(make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return a model of a fixed seed, its statistics and scales no longer the initial ones."""
    import torch

    torch.manual_seed(0)
    module, example = make()
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(part.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval(), example


def _mlp() -> tuple[Any, Any]:
    import torch
    from torch import nn

    return (
        nn.Sequential(
            nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 16), nn.Tanh(),
            nn.Linear(16, 4), nn.Softmax(-1),
        ),
        (torch.randn(2, 12),),
    )  # fmt: skip


def _norm_mlp() -> tuple[Any, Any]:
    import torch
    from torch import nn

    return (
        nn.Sequential(
            nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 32), nn.RMSNorm(32),
            nn.SiLU(), nn.Linear(32, 3), nn.LogSoftmax(-1),
        ),
        torch.randn(1, 16),
    )  # fmt: skip


def _cnn() -> tuple[Any, Any]:
    import torch
    from torch import nn

    return (
        nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(16 * 2 * 2, 10),
        ),
        (torch.randn(2, 1, 12, 12),),
    )  # fmt: skip


def _resnet() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
            self.norms = nn.ModuleList(nn.BatchNorm2d(outside) for _ in range(3))
            self.short = nn.Conv2d(inside, outside, 1, stride, bias=False)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.norms[0](self.first(x)))
            y = self.norms[1](self.second(y))
            return torch.relu(y + self.norms[2](self.short(x)))

    return (
        nn.Sequential(
            Block(3, 8, 1), Block(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(16, 5),
        ),
        torch.randn(1, 3, 16, 16),
    )  # fmt: skip


def _mobile() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Inverted(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            inner = 3 * width
            self.body = nn.Sequential(
                nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.Hardswish(),
                nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
                nn.BatchNorm2d(inner), nn.ReLU6(),
            )  # fmt: skip
            self.squeeze = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, 4, 1), nn.ReLU(), nn.Conv2d(4, inner, 1),
                nn.Hardsigmoid(),
            )  # fmt: skip
            self.project = nn.Sequential(nn.Conv2d(inner, width, 1), nn.BatchNorm2d(width))

        def forward(self, x: Any) -> Any:
            y = self.body(x)
            return x + self.project(y * self.squeeze(y))

    return (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), Inverted(8), Inverted(8), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 4),
        ),
        (torch.randn(1, 3, 16, 16),),
    )  # fmt: skip


def _transformer() -> tuple[Any, Any]:
    import torch
    from torch import nn

    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(6, 16), encoder, nn.Linear(16, 2)), (torch.randn(2, 10, 6),)


def _lstm() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.LSTM(5, 12, num_layers=2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(24, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.cells(x)[0])

    return Tagger(), torch.randn(1, 9, 5)


def _gru() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.GRU(4, 10, batch_first=True)
            self.head = nn.Linear(10, 2)

        def forward(self, frames: Any, state: Any) -> Any:
            every, state = self.cells(frames, state)
            return {"score": self.head(every[:, -1]), "state": state}

    return Stateful(), {"frames": torch.randn(1, 6, 4), "state": torch.zeros(1, 1, 10)}


def _text() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(200, 16, padding_idx=0)
            self.head = nn.Linear(16, 4)

        def forward(self, tokens: Any) -> Any:
            known = (tokens != 0).unsqueeze(-1).float()
            mean = (self.table(tokens) * known).sum(1) / known.sum(1).clamp(min=1)
            return self.head(mean)

    tokens = torch.randint(0, 200, (2, 12))
    tokens[0, :2] = torch.tensor([0, 199])
    return Bag(), (tokens,)


def _unet() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.LeakyReLU(0.1))
            self.deeper = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.GroupNorm(3, 12))
            self.bottom = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.ELU())
            self.up = nn.ConvTranspose2d(12, 12, 2, stride=2)
            self.wide = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            self.join = nn.Conv2d(24, 6, 3, padding=1)
            self.head = nn.Conv2d(12, 1, 1)

        def forward(self, x: Any) -> Any:
            first = self.down(x)
            second = self.deeper(nn.functional.max_pool2d(first, 2))
            third = self.bottom(nn.functional.max_pool2d(second, 2))
            second = torch.relu(self.join(torch.cat([self.up(third), second], 1)))
            return torch.sigmoid(self.head(torch.cat([self.wide(second), first], 1)))

    return UNet(), (torch.randn(1, 1, 16, 16),)


def _several() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = nn.Conv2d(1, 4, 3)
            self.table = nn.Linear(5, 8)
            self.mix = nn.Bilinear(4, 8, 6)

        def forward(self, image: Any, features: Any, scale: Any) -> Any:
            seen = self.image(image).amax((2, 3))
            mixed = self.mix(seen, torch.selu(self.table(features)))
            values, places = mixed.topk(2)
            return mixed * scale, (values, places), mixed.argmax(1)

    return Several(), (torch.randn(1, 1, 8, 8), torch.randn(1, 5), torch.randn(1, 1))


def _patches() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Vision(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 24, 4, 4)
            self.token = nn.Parameter(torch.randn(1, 1, 24))
            self.places = nn.Parameter(torch.randn(1, 17, 24) / 5)
            self.norm = nn.LayerNorm(24)
            self.attend = nn.MultiheadAttention(24, 3, batch_first=True)
            self.inner = nn.Sequential(nn.Linear(24, 48), nn.GELU(approximate="tanh"),
                                       nn.Linear(48, 24))  # fmt: skip
            self.head = nn.Linear(24, 5)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
            y = self.norm(x)
            x = x + self.attend(y, y, y, need_weights=False)[0]
            return self.head((x + self.inner(x))[:, 0])

    return Vision(), (torch.randn(2, 3, 16, 16),)


def _audio() -> tuple[Any, Any]:
    import torch
    from torch import nn

    return (
        nn.Sequential(
            nn.Conv1d(1, 8, 9, stride=4), nn.BatchNorm1d(8), nn.PReLU(8), nn.MaxPool1d(2),
            nn.Conv1d(8, 12, 3, dilation=2), nn.GLU(1), nn.AdaptiveAvgPool1d(4), nn.Flatten(),
            nn.Linear(24, 3),
        ),
        torch.randn(1, 1, 256),
    )  # fmt: skip


def _causal() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(32, 16)
            self.turn = nn.Linear(16, 48)
            self.back = nn.Linear(16, 32)

        def forward(self, tokens: Any) -> Any:
            x = self.table(tokens)
            parts = self.turn(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
            return self.back(x + y.transpose(1, 2).flatten(2))

    return Causal(), (torch.arange(32).reshape(4, 8),)


def _quantised(folder: Path) -> Source:
    """A CNN whose program quantises and dequantises, as PT2E's ``convert_pt2e`` leaves it."""
    import torch
    from torch import nn

    scaled = torch.ops.quantized_decomposed

    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 8, 3), nn.Linear(8 * 9, 4)
            for part in (self.first, self.second):
                rows = part.weight.detach()
                scale = rows.flatten(1).abs().amax(1) / 127
                whole = rows / scale.reshape(-1, *[1] * (rows.dim() - 1))
                part.register_buffer("whole", whole.round().clamp(-127, 127).to(torch.int8))
                part.register_buffer("scales", scale)
                part.register_buffer("zeros", torch.zeros(len(scale), dtype=torch.int64))

        def forward(self, x: Any) -> Any:
            def both(value: Any, scale: float, zero: int) -> Any:
                given = (scale, zero, -128, 127, torch.int8)
                q = scaled.quantize_per_tensor.default(value, *given)
                return scaled.dequantize_per_tensor.default(q, *given)

            def weight(part: Any) -> Any:
                given = (part.scales, part.zeros, 0, -127, 127, torch.int8)
                return scaled.dequantize_per_channel.default(part.whole, *given)

            x = both(x, 0.03, 0)
            x = nn.functional.conv2d(x, weight(self.first), self.first.bias, 2)
            x = both(torch.relu(x), 0.02, -128).flatten(1)
            return both(nn.functional.linear(x, weight(self.second), self.second.bias), 0.02, 4)

    import torch.ao.quantization.fx._decomposed  # registers the operators

    def make() -> tuple[Any, Any]:
        return Quantised(), (torch.randn(1, 1, 8, 8),)

    return _file(make)(folder)


_BATCH = {0: "batch"}
CASES = (
    Case("torch_mlp", "torch", "MLP", _file(_mlp, {"input": _BATCH})),
    Case("torch_norm_mlp", "torch", "MLP with LayerNorm, RMSNorm, GELU", _module(_norm_mlp)),
    Case("torch_cnn", "torch", "CNN with BatchNorm", _file(_cnn, {"input": _BATCH})),
    Case("torch_resnet", "torch", "residual CNN", _module(_resnet)),
    Case("torch_mobile", "torch", "depthwise CNN with squeeze-excitation", _file(_mobile)),
    Case("torch_transformer", "torch", "transformer encoder", _file(_transformer,
                                                                   {"input": _BATCH})),
    Case("torch_lstm", "torch", "bidirectional LSTM", _module(_lstm)),
    Case("torch_gru", "torch", "GRU with its state as input and output", _module(_gru)),
    Case("torch_text", "torch", "text classifier (embedding)", _file(_text, {"tokens": _BATCH})),
    Case("torch_unet", "torch", "U-Net", _file(_unet)),
    Case("torch_several", "torch", "several inputs and outputs", _module(_several)),
    Case("torch_vit", "torch", "vision transformer", _file(_patches, {"x": _BATCH})),
    Case("torch_audio", "torch", "one-dimensional CNN", _module(_audio)),
    Case("torch_causal", "torch", "causal attention", _file(_causal)),
    Case("torch_quantised", "torch", "quantised CNN (QDQ)", _quantised),
)  # fmt: skip
