"""Class ids from a semantic segmentation model: torchvision's by name, or any as an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, MissingFileError
from ..crops import resize_ids, resize_image
from .ids import IGNORE, as_ids
from .provider import Provider

Predictor = Callable[[NDArray[np.float32]], NDArray]


@dataclass(frozen=True)
class Segmenter(Provider):
    """Provider of class ids, the same in all images.

    Attributes:
        model: name of a model in ``torchvision.models.segmentation``, or path of an ``.onnx`` file that takes
            (1, 3, H, W) and gives class scores (1, C, h, w), before or after a softmax, or class ids (1, h, w).
        weights: of a torchvision model: path of its state dict, or ``default`` for torchvision's own (downloaded).
        size: height, width the model sees; None is the image's own.
        mean, std: its input is (RGB in [0, 1] - mean) / std.
        unknown: classes that become ``IGNORE``, such as an "other" class.
        min_score: pixels whose best class has a lower probability become ``IGNORE``.
    """

    model: str
    weights: str | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    unknown: Sequence[int] = ()
    min_score: float = 0.0
    _predictor: list[Predictor] = field(default_factory=list, compare=False, repr=False)

    shared_ids = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", str(self.model))
        object.__setattr__(self, "weights", None if self.weights is None else str(self.weights))

    def __call__(self, image: NDArray[np.uint8], token: str = "") -> NDArray[np.uint16]:
        """(H, W) uint16 class ids; scores are enlarged bilinearly before the best class is taken.

        Raises:
            InputError: the model cannot be had, or gives no class map.
        """
        if not self._predictor:  # each process loads its own, once
            self._predictor.append(_load(self.model, self.weights))
        seen = resize_image(image, self.size or image.shape[:2])
        mean, std = (np.array(values, dtype=np.float32) for values in (self.mean, self.std))
        pixels = ((seen / np.float32(255) - mean) / std).astype(np.float32)
        output = self._predictor[0](np.ascontiguousarray(pixels.transpose(2, 0, 1))[None])
        classes = self._classes(output, image.shape[:2])
        classes[np.isin(classes, list(self.unknown))] = IGNORE
        return as_ids(classes, self.model)

    def _classes(self, output: NDArray, size: tuple[int, int]) -> NDArray[np.int64]:
        """(H, W) int64 from scores (1, C, h, w) or ids (1, h, w) or (1, 1, h, w)."""
        if output.ndim == 4 and output.shape[1] > 1:
            scores = cv2.resize(output[0].transpose(1, 2, 0), size[::-1], interpolation=cv2.INTER_LINEAR)
            classes = scores.argmax(axis=2)
            if self.min_score > 0:
                best = np.take_along_axis(scores, classes[:, :, None], axis=2)
                is_share = scores.min() >= 0 and np.abs(scores.sum(axis=2) - 1).max() < 1e-3
                probability = best[:, :, 0] if is_share else 1 / np.exp(scores - best).sum(axis=2)
                classes[probability < self.min_score] = IGNORE
            return classes
        if output.ndim in (3, 4) and output.shape[0] == 1:
            return resize_ids(output.reshape(output.shape[-2:]), size).astype(np.int64)
        raise InputError(
            f"{self.model}: gives an array of shape {output.shape}; expected (1, classes, height, width)"
        )

    def options(self) -> dict[str, Any]:
        """All options with their values."""
        values = asdict(self)
        del values["_predictor"]
        return values | {"unknown": list(self.unknown), "mean": list(self.mean), "std": list(self.std)}

    def places(self) -> frozenset[str]:
        """The file of the weights, whose hash ``made_by`` has."""
        return frozenset({"model"} if self.model.endswith(".onnx") else {"weights"})

    def made_by(self) -> dict[str, Any]:
        """Hash of the weights, or torchvision's version for its own."""
        import torchvision

        from ..weights import file_sha256

        file = self.model if self.model.endswith(".onnx") else self.weights
        if file is None or file == "default":
            return {"weights": "torchvision default", "version": torchvision.__version__}
        if not Path(file).is_file():
            raise MissingFileError(
                f"{file}: this weight file does not exist; give the path of the segmenter's weights"
            )
        return {"sha256": file_sha256(file)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": []}


def _load(model: str, weights: str | None) -> Predictor:
    if model.endswith(".onnx"):
        return _load_onnx(model)
    if weights is None:
        raise InputError(
            f"segmenter {model}: no weights; give weights=FILE, or weights='default' to download torchvision's own"
        )
    return _load_torchvision(model, weights)


def _load_onnx(path: str) -> Predictor:
    """OpenCV runs the graph, so that no further package is needed."""
    if not Path(path).is_file():
        raise MissingFileError(
            f"{path}: this ONNX file does not exist; give the path of a segmentation model"
        )
    try:
        net = cv2.dnn.readNetFromONNX(path)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot run this ONNX model ({error.err})") from error

    def predict(pixels: NDArray[np.float32]) -> NDArray:
        net.setInput(pixels)
        return net.forward()

    return predict


def _load_torchvision(name: str, weights: str) -> Predictor:
    import torch
    from torchvision.models import get_model, list_models, segmentation

    from ..weights import read_weights

    if name not in list_models(module=segmentation):
        known = ", ".join(list_models(module=segmentation))
        raise InputError(
            f"segmenter {name!r}: not in torchvision ({known}); export another model to ONNX and give that file"
        )
    if weights == "default":
        model = get_model(name, weights="DEFAULT")
    else:
        state = read_weights(weights)
        outputs = [
            value for key, value in state.items() if key.startswith("classifier.") and key.endswith(".bias")
        ]
        if not outputs:
            raise InputError(f"{weights}: these are no weights of {name}; give the state dict of that model")
        options = {"aux_loss": True} if any(key.startswith("aux_classifier.") for key in state) else {}
        model = get_model(name, weights=None, weights_backbone=None, num_classes=len(outputs[-1]), **options)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"{weights}: these are no weights of {name} ({str(error)[:200]})") from error
    model.eval().requires_grad_(False)

    def predict(pixels: NDArray[np.float32]) -> NDArray:
        with torch.no_grad():
            return model(torch.from_numpy(pixels))["out"].numpy()

    return predict
