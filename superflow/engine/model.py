"""The model as mmengine's Runner wants it, around a plain module with ``loss`` and perhaps ``predict``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn

from ..clips.batch import Batch
from ..clips.sources import named_in


class EngineModel(BaseModel):
    """Moves batches to the model's device and hands them on.

    Args:
        model: ``loss(batch) -> dict`` with the scalar ``loss`` to step on; further scalars are logged, keys that
            start with ``_`` are for hooks only. ``predict(batch) -> (N, C)`` probabilities, where the model has it.
            ``needs`` and ``parts``, where it has them, say which outputs must not stay 0, see `hooks.FirstBatchesHook`.
    """

    model: Any  # a module with these methods; nn.Module alone promises none

    def __init__(self, model: nn.Module) -> None:
        super().__init__(data_preprocessor=_ToDevice())
        self.model = model

    def forward(self, batch: Batch, mode: str = "loss") -> Any:
        """Losses of a batch, or (batch, result) for the evaluation."""
        with named_in(batch):
            if mode == "loss":
                return self.model.loss(batch)
            return batch, (self.model.predict if hasattr(self.model, "predict") else self.model.loss)(batch)

    def look_ahead(self, batch: Batch) -> Batch:
        """The batch on the model's device, with what no weight decides of its step where the model can say it."""
        batch = batch.to(self.data_preprocessor.device)
        if not hasattr(self.model, "look_ahead"):
            return batch
        with named_in(batch):
            return self.model.look_ahead(batch)

    def parse_losses(self, losses: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """The scalar to step on and everything else for the log, detached."""
        shown = {
            name: value.detach() if isinstance(value, Tensor) else value for name, value in losses.items()
        }
        return losses["loss"], shown

    @property
    def unsaved(self) -> str:
        """Prefix of weights that checkpoints leave out: a frozen teacher's, which the record identifies by hash."""
        teacher = getattr(self.model, "teacher", None)
        frozen = isinstance(teacher, nn.Module) and not any(p.requires_grad for p in teacher.parameters())
        return "teacher." if frozen else ""

    def saved_state(self) -> dict[str, Tensor]:
        """The plain model's state by its own names, the live tensors, without `unsaved` ones."""
        skip, state = self.unsaved, self.model.state_dict()
        return {name: value for name, value in state.items() if not (skip and name.startswith(skip))}

    def record(self) -> dict[str, Any]:
        """What the model says about itself, for checkpoints and results."""
        return self.model.record() if hasattr(self.model, "record") else {}


class _ToDevice(BaseDataPreprocessor):
    """Puts a batch where the model is; the tuple is what mmengine passes on as arguments."""

    def cast_data(self, batch: Any) -> tuple[Any]:
        return (batch.to(self.device),)
