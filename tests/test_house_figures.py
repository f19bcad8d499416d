"""The figures of the house count what they say."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from house_figures import Size, function_lengths, markdown, quantile, room_files, size

TEXT = textwrap.dedent(
    '''
    """A module,

    with three lines that say so."""

    # a comment
    VALUE = """text, \\
    no docstring"""  # and another


    def plain(a: int,
              b: int) -> int:
        """What it returns."""

        async def inner() -> None: ...

        return a + b  # of both
    '''
).lstrip()


def test_code_is_what_is_neither_comment_nor_docstring() -> None:
    assert size(TEXT) == Size(lines=len(TEXT.splitlines()), code=6)
    assert size("") == Size(0, 0)
    assert size("x = 1\n") + size("\n# y\n") == Size(3, 1)


def test_a_function_has_the_lines_from_its_def_to_its_end() -> None:
    assert sorted(function_lengths(TEXT)) == [1, 7]


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.51, 3), (0.9, 4), (1.0, 4), (0.0, 1)])
def test_a_quantile_is_one_of_the_values(share: float, value: int) -> None:
    assert quantile([4, 1, 3, 2], share) == value


def test_rooms_are_packages_and_modules_of_the_house(tmp_path: Path) -> None:
    for name in (
        "superflow/__init__.py",
        "superflow/errors.py",
        "superflow/hub/a.py",
        "lidar/b.py",
        "configs/c.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert sorted(room for room, _ in room_files(tmp_path)) == ["errors", "hub", "lidar"]


def test_a_room_that_a_checkout_lacks_is_a_dash() -> None:
    table = markdown(
        {"before": {"hub": "2 (1)", "a, b": "1, 2"}, "after": {"files": "3 (3)", "a, b": "1, 3"}}
    )
    assert table.splitlines() == [
        "| | before | after |",
        "|---|---|---|",
        "| files | - | 3 (3) |",
        "| hub | 2 (1) | - |",
        "| a, b | 1, 2 | 1, 3 |",
    ]
