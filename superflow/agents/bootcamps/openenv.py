"""Questions as an environment of one step: a plain one, and an OpenEnv one of it, which only then needs OpenEnv."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any
from uuid import uuid4

from ...errors import InputError, pip_install
from .bootcamp import Identity, Score
from .registry import family_of


class QuestionEnvironment:
    """An episode is one question and one answer.

    Args:
        cases: gives the cases of a seed, as `export.mixed_cases` does.
    """

    def __init__(self, cases: Callable[[int], Iterator[Identity]]) -> None:
        self._cases = cases
        self._source = cases(0)
        self._identity: Identity | None = None
        self.steps = 0

    def reset(self, seed: int | None = None) -> str:
        """The prompt of the next case; with a seed, of the first one of that seed.

        Raises:
            InputError: there is no further case.
        """
        if seed is not None:
            self._source = self._cases(seed)
        self._identity = next(self._source, None)
        self.steps = 0
        if self._identity is None:
            raise InputError("there is no further question; give cases without end, or reset with a seed")
        return family_of(self._identity).prompt_func(self._identity)

    def step(self, output: str) -> Score:
        """The score of the answer, which ends the episode.

        Raises:
            InputError: the question was answered already, or none was asked.
        """
        if self._identity is None or self.steps:
            raise InputError("no question is open; reset the environment first")
        self.steps = 1
        return family_of(self._identity).check(output, self._identity)

    @property
    def state(self) -> Mapping[str, Any]:
        """Number of steps of the episode, its family and its scene; the answer is not in it."""
        asked = self._identity or {}
        return {"step_count": self.steps, "family": asked.get("family"), "scene": asked.get("scene")}


def openenv_environment(cases: Callable[[int], Iterator[Identity]]) -> Any:
    """An ``openenv`` Environment with the action ``Answer(text)`` and the observation ``Asked(prompt, reason)``.

    Its classes are its attributes ``Answer`` and ``Asked``, for `openenv.core.env_server.create_app`.

    Raises:
        ImportError: openenv is not installed.
    """
    types, interfaces = _openenv("types"), _openenv("interfaces")
    answer = type("Answer", (types.Action,), {"__annotations__": {"text": str}})
    fields = {"__annotations__": {"prompt": str, "reason": str}, "prompt": "", "reason": ""}
    asked = type("Asked", (types.Observation,), fields)

    class OpenEnvQuestions(interfaces.Environment):  # type: ignore[misc,name-defined]
        """`QuestionEnvironment` in OpenEnv's types."""

        Answer, Asked = answer, asked

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.episode = QuestionEnvironment(cases), str(uuid4())

        def reset(self, seed: int | None = None, episode_id: str | None = None, **_: Any) -> Any:
            self.episode = episode_id or str(uuid4())
            return asked(prompt=self.inner.reset(seed), done=False)

        def step(self, action: Any, timeout_s: float | None = None, **_: Any) -> Any:
            score = self.inner.step(action.text)
            return asked(reason=score.reason, reward=score.value, done=True)

        @property
        def state(self) -> Any:
            return types.State(episode_id=self.episode, **self.inner.state)

    return OpenEnvQuestions()


def _openenv(part: str) -> ModuleType:
    """A module of OpenEnv, which brings much that nothing else here needs, so no extra names it."""
    try:
        return import_module(f"openenv.core.env_server.{part}")
    except ImportError as error:
        raise ImportError(f"openenv is not installed ({error}); run: {pip_install('openenv')}") from error
