"""Train the digits classifier and write the files of the example.

Takes: scikit-learn's `load_digits` (1797 handwritten digits, 8x8 pixels, values 0..16), which
comes with that package; nothing is downloaded.

Gives, in the output folder (by default the folder of this script):

- `preprocess.onnx`: `image` uint8 [batch, 8, 8] -> `input` float32 [batch, 1, 8, 8].
- `digits.onnx`: `input` float32 [batch, 1, 8, 8] -> `probabilities` float32 [batch, 10].
- `vectors.npz`: `image` uint8 [10, 8, 8] and `label` int64 [10], one scan of each digit from
  the test split.

`preprocess.onnx` is written first and makes the training inputs, so that training and
deployment share one preprocessing. The accuracy printed at the end is that of the written files.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 0
CLASSES = 10
PIXEL_MAX = 16.0
TEST_FRACTION = 0.25

EPOCHS = 20
BATCH_SIZE = 32
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2

OPSET = 18
IR_VERSION = 10

# The edges of the two graphs. The stages are joined by name, so both use the same INPUT.
IMAGE = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8, 8])
INPUT = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])
PROBABILITIES = helper.make_tensor_value_info(
    "probabilities", TensorProto.FLOAT, ["batch", CLASSES]
)


def conv_block(channels_in: int, channels_out: int, kernel: int, groups: int = 1) -> nn.Sequential:
    """Make convolution, batch normalisation and ReLU; height and width stay as they are.

    Args:
        channels_in: channels of the input, float32 [batch, channels_in, height, width].
        channels_out: channels of the output, float32 [batch, channels_out, height, width].
        kernel: the odd height and width of the kernel.
        groups: groups of the convolution; `channels_in` of them make it depthwise.

    Returns:
        The layers. The export folds the normalisation into the convolution.
    """
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class DigitsNet(nn.Module):
    """A small convolutional network with one depthwise-separable layer."""

    def __init__(self) -> None:
        """Create the layers with freshly initialised weights."""
        super().__init__()
        self.stem = conv_block(1, 16, kernel=3)
        self.depthwise = conv_block(16, 16, kernel=3, groups=16)
        self.pointwise = conv_block(16, 32, kernel=1)
        self.max_pool = nn.MaxPool2d(2)
        self.conv = conv_block(32, 32, kernel=3)
        self.average_pool = nn.AvgPool2d(2)
        self.linear = nn.Linear(32 * 2 * 2, CLASSES)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Score a batch of preprocessed images, as the training loss wants it.

        Args:
            x: float32 [batch, 1, 8, 8], values 0..1.

        Returns:
            float32 [batch, 10], unnormalised scores.
        """
        x = self.max_pool(self.pointwise(self.depthwise(self.stem(x))))
        x = self.average_pool(self.conv(x))
        return self.linear(torch.flatten(x, start_dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify a batch of preprocessed images; this is the exported graph.

        Args:
            x: float32 [batch, 1, 8, 8], values 0..1.

        Returns:
            float32 [batch, 10], one probability per digit; each row sums to 1.
        """
        return torch.softmax(self.logits(x), dim=1)


def make_model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Wrap a graph in a checked model; both stages get the same opset and IR version."""
    model = helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def build_preprocess() -> onnx.ModelProto:
    """Build the preprocessing stage: cast, scale 0..16 to 0..1, add the channel axis.

    Returns:
        A model from `image` uint8 [batch, 8, 8] to `input` float32 [batch, 1, 8, 8].
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "pixel_max"], ["scaled"], name="scale"),
        helper.make_node("Unsqueeze", ["scaled", "channel_axis"], ["input"], name="add_channel"),
    ]
    constants = [
        numpy_helper.from_array(np.array(PIXEL_MAX, np.float32), "pixel_max"),
        numpy_helper.from_array(np.array([1], np.int64), "channel_axis"),
    ]
    return make_model(helper.make_graph(nodes, "digits_preprocess", [IMAGE], [INPUT], constants))


def clean_graph(graph: onnx.GraphProto, parameters: set[str]) -> None:
    """Drop the exporter's metadata and name nodes and values by operator and position, in place.

    Args:
        graph: a graph in which every node has one output.
        parameters: names of initializers to keep; the others become `constant_0` and so on.
    """
    for item in [*graph.node, *graph.initializer]:
        item.ClearField("doc_string")
        item.ClearField("metadata_props")

    constants = [tensor for tensor in graph.initializer if tensor.name not in parameters]
    names = {tensor.name: f"constant_{index}" for index, tensor in enumerate(constants)}
    for tensor in constants:
        tensor.name = names[tensor.name]

    outputs = {value.name for value in graph.output}
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type.lower()}_{index}"
        node.input[:] = [names.get(name, name) for name in node.input]
        if node.output[0] not in outputs:
            names[node.output[0]] = node.name
            node.output[0] = node.name


def export_network(net: DigitsNet) -> onnx.ModelProto:
    """Export the network to one self-contained model, weights included.

    Args:
        net: the trained network.

    Returns:
        A model from `input` float32 [batch, 1, 8, 8] to `probabilities` float32 [batch, 10].
    """
    example = torch.zeros(2, 1, 8, 8)
    program = torch.onnx.export(
        net.eval(),
        (example,),
        input_names=["input"],
        output_names=["probabilities"],
        opset_version=OPSET,
        dynamic_shapes={"x": {0: "batch"}},
        dynamo=True,
        verbose=False,
    )
    graph = program.model_proto.graph
    clean_graph(graph, parameters={name for name, _ in net.named_parameters()})
    return make_model(
        helper.make_graph(graph.node, "digits", [INPUT], [PROBABILITIES], graph.initializer)
    )


def run_stage(path: Path, values: np.ndarray) -> np.ndarray:
    """Run a model file that has one input and one output.

    Args:
        path: the ONNX file.
        values: the input, [batch, ...] in the dtype and shape that the file declares.

    Returns:
        The output, [batch, ...] in the dtype and shape that the file declares.
    """
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: values})[0]


def train(inputs: np.ndarray, labels: np.ndarray) -> DigitsNet:
    """Train the network for a fixed number of epochs, the same way on every run.

    Args:
        inputs: float32 [samples, 1, 8, 8], the output of the preprocessing stage.
        labels: int64 [samples], digits 0..9.

    Returns:
        The trained network.
    """
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of summation, and so the weights, depends on it
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    net = DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net.logits(x[batch]), y[batch]).backward()
            optimizer.step()
        schedule.step()
    return net


def main() -> None:
    """Train, write the three files and print the accuracy on the test split."""
    parser = argparse.ArgumentParser(description="Train the digits example and write its files.")
    parser.add_argument(
        "--out-dir",
        type=Path,
        default=Path(__file__).resolve().parent,
        help="existing folder for the files (default: the folder of this script)",
    )
    out_dir = parser.parse_args().out_dir
    preprocess_path, model_path = out_dir / "preprocess.onnx", out_dir / "digits.onnx"

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_FRACTION, stratify=labels, random_state=SEED
    )

    onnx.save(build_preprocess(), preprocess_path)
    net = train(run_stage(preprocess_path, train_images), train_labels)
    onnx.save(export_network(net), model_path)

    chosen = [np.flatnonzero(test_labels == digit)[0] for digit in range(CLASSES)]
    np.savez(out_dir / "vectors.npz", image=test_images[chosen], label=test_labels[chosen])

    probabilities = run_stage(model_path, run_stage(preprocess_path, test_images))
    correct = int((probabilities.argmax(axis=1) == test_labels).sum())
    print(f"test accuracy: {correct / len(test_labels):.4f} ({correct} of {len(test_labels)})")


if __name__ == "__main__":
    main()
