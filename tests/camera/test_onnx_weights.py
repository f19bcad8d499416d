"""The protocol-buffer reader, on bytes written by a few lines of our own."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.camera.onnx_weights import Node, read_onnx
from superflow.camera.teachers.embedded_dinov2 import timm_names
from superflow.errors import InputError


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, array: np.ndarray, *, packed: bool = False) -> bytes:
    kind = {"float32": 1, "int64": 7, "float16": 10, "bool": 9}[str(array.dtype)]
    dims = (
        field(1, b"".join(map(varint, array.shape))) if packed else b"".join(field(1, d) for d in array.shape)
    )
    return dims + field(2, kind) + field(8, name) + field(9, array.tobytes())


def node(operation: str, inputs: list[str], outputs: list[str]) -> bytes:
    return (
        b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs) + field(4, operation)
    )


def model(nodes: list[bytes], tensors: list[bytes]) -> bytes:
    graph = b"".join(field(1, n) for n in nodes) + field(2, "graph") + b"".join(field(5, t) for t in tensors)
    # an unknown fixed32
    return field(1, 8) + field(2, "made by hand") + field(7, graph) + b"\x4d" + b"\0\0\0\0"


def test_reads_tensors_and_nodes(tmp_path):
    arrays = {
        "weight": np.arange(300, dtype=np.float32).reshape(3, 100),
        "shape": np.array([2**40, -1], dtype=np.int64),
        "half": np.array([[0.5]], dtype=np.float16),
    }
    path = tmp_path / "tiny.onnx"
    tensors = [tensor(name, array, packed=i == 1) for i, (name, array) in enumerate(arrays.items())]
    tensors.append(tensor("flags", np.array([True])))  # a type that is not needed
    path.write_bytes(model([node("MatMul", ["x", "weight"], ["y"]), node("Add", ["y", "b"], ["z"])], tensors))
    got, nodes = read_onnx(path)
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
    assert nodes == [Node("MatMul", ("x", "weight"), ("y",)), Node("Add", ("y", "b"), ("z",))]


def test_other_bytes_are_refused(tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(model([node("Add", ["a", "b"], ["c"])], [tensor("w", np.ones(50, np.float32))])[:-30])
    with pytest.raises(InputError, match=r"cut\.onnx: not readable as an ONNX model"):
        read_onnx(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="holds no ONNX graph"):
        read_onnx(path)


def test_linear_weights_are_found_through_their_bias_and_transposed():
    width, generator = 4, np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}
    nodes = []
    layer = "backbone.encoder.layer.0"

    def add(name: str, *shape: int) -> np.ndarray:
        tensors[name] = generator.normal(size=shape).astype(np.float32)
        return tensors[name]

    linear = {"attention.attention.query": 4, "attention.attention.key": 4, "attention.attention.value": 4}
    linear |= {"attention.output.dense": 4, "mlp.fc1": 8}
    weights = {}
    for number, (name, out) in enumerate([*linear.items(), ("mlp.fc2", 4)]):
        weights[name] = add(f"onnx::MatMul_{number}", 8 if name == "mlp.fc2" else width, out)
        add(f"{layer}.{name}.bias", out)
        nodes.append(Node("MatMul", ("x", f"onnx::MatMul_{number}"), (f"product{number}",)))
        operands = (f"product{number}", f"{layer}.{name}.bias")
        nodes.append(Node("Add", operands if number % 2 else operands[::-1], (f"sum{number}",)))
    for name in (
        "norm1.weight",
        "norm1.bias",
        "norm2.weight",
        "norm2.bias",
        "layer_scale1.lambda1",
        "layer_scale2.lambda1",
    ):
        add(f"{layer}.{name}", width)
    add("backbone.embeddings.cls_token", 1, 1, width)
    patches, first = add("onnx::Add_91", 1, 9, width), add("onnx::Concat_90", 1, 1, width)
    for part, shape in (("weight", (width, 3, 2, 2)), ("bias", (width,))):
        add(f"backbone.embeddings.patch_embeddings.projection.{part}", *shape)
        add(f"backbone.layernorm.{part}", width)

    state = timm_names(tensors, nodes, blocks=1)
    qkv = np.concatenate([weights[f"attention.attention.{role}"].T for role in ("query", "key", "value")])
    np.testing.assert_array_equal(state["blocks.0.attn.qkv.weight"], qkv)
    np.testing.assert_array_equal(state["blocks.0.mlp.fc2.weight"], weights["mlp.fc2"].T)
    np.testing.assert_array_equal(state["blocks.0.mlp.fc1.bias"], tensors[f"{layer}.mlp.fc1.bias"])
    np.testing.assert_array_equal(state["pos_embed"], np.concatenate([first, patches], axis=1))
    np.testing.assert_array_equal(state["blocks.0.ls2.gamma"], tensors[f"{layer}.layer_scale2.lambda1"])
    # tokens and patches, norm, four layers, scales and norms of the block
    assert len(state) == 3 + 1 + 2 + 8 + 6
