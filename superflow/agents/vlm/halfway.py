"""A file from which a training that was stopped goes on, as if it had not been."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...files.access import check_readable
from ...files.writes import write_atomically
from ...progress import cpu_seconds

EVERY_S = 60.0  # between two writings, so that a stop loses little and writing costs little


class Halfway:
    """What learns, the state of its optimizer, and the loss of each step done, in one file.

    Whoever owns the file sees to it that it is of the same training: what it is made of stands beside it, not in it.

    Attributes:
        spent: CPU seconds of training before this process took over, 0 until ``resume``.
    """

    def __init__(self, path: Path, *, every_s: float = EVERY_S) -> None:
        self.path, self.every_s, self.spent = path, every_s, 0.0
        self._began, self._kept = cpu_seconds(), time.monotonic()

    def resume(self, parameters: Sequence[Tensor], states: Sequence[Any]) -> list[float]:
        """Put what the file holds into ``parameters`` and ``states``; the loss of each step done, none without a file.

        Args:
            parameters: that learn, in their order. states: what else a step changes, by ``load_state_dict``.

        Raises:
            InputError: the file is damaged, or of another model.
        """
        self._began, self._kept = cpu_seconds(), time.monotonic()
        if not self.path.is_file():
            return []
        check_readable(self.path)
        advice = f"delete {self.path} to train from the start"
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            with torch.no_grad():
                for parameter, value in zip(parameters, kept["parameters"], strict=True):
                    parameter.copy_(value)
            for state, value in zip(states, kept["states"], strict=True):
                state.load_state_dict(value)
            self.spent = float(kept["cpu_seconds"])
            return [float(loss) for loss in kept["losses"]]
        except (
            Exception
        ) as error:  # torch reads foreign bytes as a pickle and then raises whatever they lead to
            raise InputError(f"{self.path}: is not what this training left; {advice}") from error

    def keep(self, parameters: Sequence[Tensor], states: Sequence[Any], losses: Sequence[float]) -> None:
        """Write the file, if the last time was long enough ago."""
        if time.monotonic() - self._kept < self.every_s:
            return
        content = {
            "parameters": [parameter.detach() for parameter in parameters],
            "states": [state.state_dict() for state in states],
            "losses": list(losses),
            "cpu_seconds": self.spent + cpu_seconds() - self._began,
        }
        with write_atomically(self.path) as file:
            torch.save(content, file)
        self._kept = time.monotonic()

    def remove(self) -> None:
        """The training has ended; its file goes."""
        self.path.unlink(missing_ok=True)
