"""Plans are read by the fields of their dataclasses, whatever these are; tables are written in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from superflow.benchmark.markdown import table_lines
from superflow.benchmark.plan_file import check_seeds, entries, find_plan, read_plan, refer, refuse_same_files
from superflow.errors import InputError, MissingFileError


@dataclass(frozen=True)
class Part:
    size: int
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise InputError("a size is below 0")


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


@dataclass(frozen=True)
class Typed:
    shown: bool = False
    count: int | None = None
    share: float = 1.0
    seeds: Sequence[int] = ()
    mix: Mapping[str, float] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    word: str = ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shown: 'no'", "shown is 'no'; give true or false"),
        ("count: 1.5", "count is 1.5; give a whole number or null"),
        ("count: true", "count is True; give a whole number or null"),
        ("share: 1e-3", "share is '1e-3'; give a number, with a point: 1.0e-3"),
        ("share: .nan", "share is nan; give a number, with a point: 1.0e-3"),
        ("seeds: 3", "seeds is 3; give a list, each of its values a whole number"),
        ("seeds: '012'", "seeds is '012'; give a list, each of its values a whole number"),
        ("seeds: [a]", r"seeds is \['a'\]; give a list, each of its values a whole number"),
        ("mix: {a: x}", "mix is {'a': 'x'}; give a mapping, each of its values a number"),
        ("rates: [1.0, x]", "rates is .*; give a list, each of its values a number"),
        ("word: null", "word is None; give text"),
    ],
)
def test_values_have_the_types_of_their_fields(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"^{path}: {said}"):
        read_plan(path, Typed)
    path.write_text("{shown: yes, count: null, share: 2, seeds: [1], mix: {1: 2}, rates: [1], word: x}")
    assert read_plan(path, Typed) == Typed(True, None, 2, [1], {1: 2}, [1], "x")


@pytest.mark.parametrize("seeds", [[], [0, 0], [-1], [2**32]])
def test_wrong_seeds_are_refused(seeds: list[int]) -> None:
    assert check_seeds([2, 0], "--seeds") == [2, 0]
    with pytest.raises(InputError, match=r"^--seeds is .*; give different whole numbers from 0"):
        check_seeds(seeds, "--seeds")


def test_names_of_one_file_are_refused() -> None:
    with pytest.raises(InputError, match=r"arms: '\+\+' has no letter and no digit to name files by"):
        refuse_same_files(["SuperFlow", "++"], "arms")
    refuse_same_files(["SuperFlow", "SLidR"], "arms")
    with pytest.raises(
        InputError, match="arms: files of 'SuperFlow' and 'SuperFlow\\+\\+' would have one name"
    ):
        refuse_same_files(["SuperFlow", "SuperFlow++"], "arms")


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
        ("settings: {}\nthings: {a: {maybe: 3}}", r"things: 'a': maybe is 3; give a mapping or null$"),
        ("settings: {}\nthings: {a: {parts: null}}", r"things: 'a': needs a mapping with the key parts$"),
        ("settings: {}\nthings: {a: {parts: {b: {}}}}", r"parts: 'b' lacks 'size'; its keys are size, more$"),
        (
            "settings: {}\nthings: {a: {parts: {b: {size: 1, more: x}}}}",
            r"'b': needs a mapping with the key more$",
        ),
        ("settings: {}\nthings: {a: {}}\nrow: 3", r"needs a mapping with the key row$"),
        ("settings: {}\nthings: {a: {}}\n1: x\ntwo: x", r"1 is unknown; the keys are settings, things, row$"),
        ("settings: {}\nthings: {yes: {}}", r"things: True is no name; give text, in quotes where YAML has"),
        ("settings: {}\nthings: {null: {}}", r"things: None is no name; give text"),
        ("settings: {}\nthings: {1: {}, '1': {}}", r"things: '1' is there twice, as a number and as text"),
        ("settings: {}\nthings: {a: {parts: {b: {size: -1}}}}", r"'a': parts: 'b': a size is below 0$"),
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


def test_a_plan_that_is_not_there_gets_the_nearest_shipped_one() -> None:
    assert find_plan(Path("own_log")).name == "own_log.yaml"
    with pytest.raises(
        MissingFileError, match=r"^own_lock: there is no such plan; .* known one is 'own_log'$"
    ):
        find_plan(Path("own_lock"))


def test_a_slip_in_the_path_of_a_plan_does_not_run_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    shipped = find_plan(Path("own_log.yaml"))
    assert find_plan(Path("configs/benchmark/own_log.yaml")).samefile(shipped)
    for path in (tmp_path / "own_log.yaml", Path("plans/own_log.yaml"), Path("own_log.v2")):
        with pytest.raises(MissingFileError, match=f"^{path}: there is no such plan"):
            find_plan(path)


def test_the_command_names_every_shipped_plan(capsys: pytest.CaptureFixture[str]) -> None:
    from superflow.tools.benchmark import parse_args

    with pytest.raises(SystemExit):
        parse_args(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    plans = Path(__file__).parents[3] / "configs" / "benchmark"
    assert f"({', '.join(sorted(path.stem for path in plans.glob('*.yaml')))})" in said


def test_a_table_has_a_rule_as_wide_as_its_heads() -> None:
    assert table_lines(("a", "b"), [("1", "2"), ["3", "4"]]) == [
        "| a | b |",
        "|---|---|",
        "| 1 | 2 |",
        "| 3 | 4 |",
    ]
    assert table_lines(("a",), []) == ["| a |", "|---|"]
    assert table_lines(("a|b",), [["c\nd"]]) == ["| a\\|b |", "|---|", "| c d |"]
