"""Cases of control flow: ``If`` and ``Loop`` with all that decides how they are compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
from op_cases import Array, Case, Const, f


def _graph(key: str, text: str) -> onnx.GraphProto:
    """Return a body; ``$`` in its text makes names that are its own."""
    return onnx.parser.parse_graph(text.replace("$", f"{key}_"))


def _loop(label: str, inputs: tuple[Any, ...], outputs: int, text: str) -> Case:
    body = _graph(f"Loop_{label}", f"body {text}")
    return Case("Loop", label, inputs, outputs, {"body": body})


def _if(label: str, condition: bool, then: str, other: str, outputs: int = 1) -> Case:
    branches = {
        name: _graph(f"If_{label}_{name}", f"{name} () => {text}")
        for name, text in (("then_branch", then), ("else_branch", other))
    }
    return Case("If", label, (np.array(condition),), outputs, branches)


def _count(number: int) -> Array:
    return np.array(number, np.int64)


STEP = """(int64 $i, bool $c, float[3,4] $h) => (bool $co, float[3,4] $ho) {
    $co = Identity($c)
    $w = Constant <value_float = 0.75> ()
    $g = Mul($h, $w)
    $f = Cast <to = 1> ($i)
    $ho = Add($g, $f)
}"""
STACK = """(int64 $i, bool $c, float[3,4] $h)
    => (bool $co, float[3,4] $ho, float[3,4] $s, float $m) {
    $co = Identity($c)
    $ho = Tanh($h)
    $s = Identity($ho)
    $m = ReduceSum <keepdims = 0> ($h)
}"""
SWAP = """(int64 $i, bool $c, float[5] $a, float[5] $b, float[5] $d)
    => (bool $co, float[5] $ao, float[5] $bo, float[5] $do) {
    $co = Identity($c)
    $ao = Identity($b)
    $bo = Identity($a)
    $do = Add($d, $a)
}"""
UNTIL = """(int64 $i, bool $c, float[4] $h) => (bool $co, float[4] $ho) {
    $ho = Add($h, $h)
    $m = ReduceMax <keepdims = 0> ($ho)
    $limit = Constant <value_float = 100.0> ()
    $co = Less($m, $limit)
}"""
NESTED = """(int64 $i, bool $c, float[2,3] $h) => (bool $co, float[2,3] $ho, float[4,2,3] $so) {
    $co = Identity($c)
    $n = Constant <value_int = 4> ()
    $odd = Constant <value_int = 1> ()
    $q, $so = Loop <body = inner (int64 $j, bool $d, float[2,3] $k)
        => (bool $dd, float[2,3] $ko, float[2,3] $kk) {
        $dd = Identity($d)
        $p = Greater($j, $odd)
        $g = Neg($k)
        $ko = If <
            then_branch = left () => (float[2,3] $x) { $x = Add($g, $h) },
            else_branch = right () => (float[2,3] $y) { $y = Mul($g, $g) }> ($p)
        $kk = Sub($ko, $h)
    }> ($n, , $h)
    $ho = Sigmoid($q)
}"""


def _recurrent(op: str, label: str, gates: int, two: int = 1, **attributes: Any) -> Case:
    """Return a case with everything that a node can be given, of 4 steps and a batch of 3."""
    key = op + label
    inputs: list[Any] = [
        f(key + "x", 4, 3, 5),
        Const(f(key + "w", two, gates * 2, 5, low=-1, high=1)),
        Const(f(key + "r", two, gates * 2, 2, low=-1, high=1)),
        Const(f(key + "b", two, gates * 4)),
        np.array([4, 1, 3], np.int32) if two == 2 else None,
        f(key + "h", two, 3, 2),
    ]
    if op == "LSTM":
        inputs += [f(key + "c", two, 3, 2), Const(f(key + "p", two, 6))]
    outputs = 3 if op == "LSTM" else 2
    return Case(op, label, tuple(inputs), outputs, {"hidden_size": 2, **attributes})


def _recurrent_cases() -> list[Case]:
    found = []
    for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
        found += [
            _recurrent(op, "forward", gates),
            _recurrent(op, "reverse", gates, direction="reverse", clip=0.5),
            _recurrent(op, "lengths", gates, 2, direction="bidirectional"),
        ]
    found.append(_recurrent("GRU", "linear", 3, linear_before_reset=1))
    found.append(
        Case(
            "ReverseSequence",
            "run_time",
            (f("rs", 4, 3, 2), np.array([4, 1, 3], np.int64)),
        )
    )
    body = _graph(
        "Scan_sum",
        """body (float[3] $s, float[3] $x) => (float[3] $so, float[3] $y) {
            $so = Add($s, $x)
            $y = Mul($so, $so)
        }""",
    )
    attributes = {"body": body, "num_scan_inputs": 1, "scan_input_directions": [1]}
    found.append(Case("Scan", "sum", (f("ss", 3), f("sx", 6, 3)), 2, attributes))
    return found


def cases() -> list[Case]:
    """Return all of them."""
    x = f("flow", 3, 4)
    found = [
        _loop("counted", (Const(_count(7)), None, x), 1, STEP),
        _loop("stacks", (Const(_count(5)), None, x), 3, STACK),
        _loop("swap", (_count(3), None, f("fa", 5), f("fb", 5), f("fd", 5)), 3, SWAP),
        _loop("until", (None, np.array(True), f("fu", 4, low=0.1, high=2)), 1, UNTIL),
        _loop("never", (_count(9), np.array(False), f("fn", 4)), 1, UNTIL),
        _loop("nested", (Const(_count(3)), None, f("fx", 2, 3)), 2, NESTED),
    ]
    found += [
        _loop(f"trips{number}".replace("-", "m"), (_count(number), None, x), 1, STEP)
        for number in (-1, 0, 1, 4)
    ]
    for condition in (True, False):
        found.append(
            _if(
                str(condition).lower(),
                condition,
                """(float[3] $a, float[2] $b) {
                    $a = Constant <value_floats = [1.0, 2.0, 3.0]> ()
                    $b = Constant <value_floats = [5.0, 6.0]> ()
                }""",
                """(float[3] $a, float[2] $b) {
                    $a = Constant <value_floats = [3.0, 4.0, 5.0]> ()
                    $c = Constant <value_floats = [0.5, 0.25]> ()
                    $b = Exp($c)
                }""",
                2,
            )
        )
    return [*found, *_recurrent_cases()]
