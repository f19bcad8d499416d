"""A test of a problem: a scene and arguments. Thrown ones are what other generators must be better than."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bootcamps.made_scenes import made_scenes
from ..scene import SceneRecord
from .problem import Problem, Span


@dataclass(frozen=True, slots=True)
class Case:
    """One test. arguments: name -> value, JSON types."""

    scene: SceneRecord
    arguments: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"scene": self.scene.to_dict(), "arguments": self.arguments}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Case:
        """What ``to_dict`` gave."""
        return cls(SceneRecord.from_dict(values["scene"]), values["arguments"])


def thrown_cases(problem: Problem, rng: np.random.Generator) -> Iterator[Case]:
    """Scenes of thrown objects, arguments drawn evenly from their spans, without end."""
    while True:
        (scene,) = made_scenes(rng, 1)
        yield Case(scene, thrown_arguments(problem, rng))


def thrown_arguments(problem: Problem, rng: np.random.Generator) -> dict[str, Any]:
    """A value of each argument, drawn evenly from its span."""
    return {name: _drawn(span, rng) for name, span in problem.spans.items()}


def _drawn(span: Span, rng: np.random.Generator) -> Any:
    if isinstance(span[0], str):
        return str(span[int(rng.integers(len(span)))])
    low, high = span
    if isinstance(low, int) and isinstance(high, int):
        return int(rng.integers(low, high + 1))
    return float(rng.uniform(low, high))
