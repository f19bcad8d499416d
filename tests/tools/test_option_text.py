"""Text that a command hands on to a provider stays text."""

from __future__ import annotations

from typing import Any

import pytest

from superflow.errors import InputError
from superflow.tools.prepare import _options


@pytest.mark.parametrize(
    "text", ["007", "1e5", "true", "a: b", "my maps", "a,b", "[x", "null", "2026-01-01", "~"]
)
@pytest.mark.parametrize(
    ("provider", "key"), [("clusters", "features"), ("clusters", "teacher"), ("clusters", "teacher_path")]
)
def test_names_and_paths_of_a_provider_stay_text(provider: str, key: str, text: str) -> None:
    assert _options([f"{key}={text}"], provider) == {key: text}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("clusters=3", {"clusters": 3}),
        ("size=[224, 420]", {"size": [224, 420]}),
        ("components=true", {"components": True}),
        ("temperature=1.0e-1", {"temperature": 0.1}),
        ("fit_tokens=[007,1e5]", {"fit_tokens": ["007", "1e5"]}),
        ("features=None", {"features": None}),
        ("unknown=3", {"unknown": 3}),  # the provider refuses it
    ],
)
def test_other_options_of_a_provider_are_read(option: str, value: dict[str, Any]) -> None:
    assert _options([option], "clusters") == value


def test_an_unknown_provider_is_said_first() -> None:
    with pytest.raises(InputError, match="superpixel provider 'slick' is unknown; choose one of slic"):
        _options(["segments=3"], "slick")
