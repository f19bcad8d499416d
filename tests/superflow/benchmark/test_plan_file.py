"""Plans are read by the fields of their dataclasses, whatever these are; tables are written in one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from superflow.benchmark.markdown import table_lines
from superflow.benchmark.plan_file import entries, read_plan, refer
from superflow.errors import InputError


@dataclass(frozen=True)
class Part:
    size: int
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Thing:
    name: str
    parts: Mapping[str, Part] = entries(Part, default_factory=lambda: {"all": Part(0)})
    maybe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Whole:
    path: Path
    settings: Mapping[str, Any]
    things: Mapping[str, Thing] = entries(Thing)
    row: tuple[Thing, ...] = entries(Thing, default_factory=tuple)


def read(tmp_path: Path, text: str) -> Whole:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return read_plan(path, Whole, path=path)


def test_entries_are_objects_at_every_depth(tmp_path: Path) -> None:
    text = "settings: {}\nthings: {a: {parts: {0: {size: 0}}}, 1: {maybe: null}}\nrow: {b: {}}\n"
    whole = read(tmp_path, text)
    assert whole == Whole(
        path=tmp_path / "plan.yaml",
        settings={},
        things={"a": Thing("a", parts={"0": Part(0)}), "1": Thing("1")},
        row=(Thing("b"),),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("things: {a: {}}", r"plan\.yaml: needs a mapping with the key settings$"),
        ("settings: 3\nthings: {a: {}}", r"plan\.yaml: needs a mapping with the key settings$"),
        ("settings: {}", r"needs a mapping with the key things$"),
        ("settings: {}\nthings: {}", r"needs a mapping with the key things$"),
        ("settings: {}\nthings: [a]", r"needs a mapping with the key things$"),
        ("settings: {}\nthings: {a: 3}", r"plan\.yaml: things: 'a' is 3; give a mapping$"),
        ("settings: {}\nthings: {a: {part: {}}}", r"'a': 'part' is unknown; the keys are parts, maybe$"),
        ("settings: {}\nthings: {a: {name: b}}", r"'a': 'name' is unknown; the keys are parts, maybe$"),
        ("settings: {}\nthings: {a: {maybe: 3}}", r"things: 'a': needs a mapping with the key maybe$"),
        ("settings: {}\nthings: {a: {parts: null}}", r"things: 'a': needs a mapping with the key parts$"),
        ("settings: {}\nthings: {a: {parts: {b: {}}}}", r"parts: 'b' lacks 'size'; its keys are size, more$"),
        (
            "settings: {}\nthings: {a: {parts: {b: {size: 1, more: x}}}}",
            r"'b': needs a mapping with the key more$",
        ),
        ("settings: {}\nthings: {a: {}}\nrow: 3", r"needs a mapping with the key row$"),
        ("settings: {}\nthings: {a: {}}\npath: x", r"'path' is unknown; the keys are settings, things, row$"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'plan.yaml'}: ")


def test_names_that_stand_for_nothing_get_the_nearest() -> None:
    refer(["probe"], {"probe": 1}, "here")
    with pytest.raises(InputError, match=r"^here: there is no 'prob'; the nearest known one is 'probe'$"):
        refer(["probe", "prob"], {"probe": 1}, "here")


def test_a_table_has_a_rule_as_wide_as_its_heads() -> None:
    assert table_lines(("a", "b"), [("1", "2"), ["3", "4"]]) == [
        "| a | b |",
        "|---|---|",
        "| 1 | 2 |",
        "| 3 | 4 |",
    ]
    assert table_lines(("a",), []) == ["| a |", "|---|"]
