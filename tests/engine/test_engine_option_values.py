"""What the text of an option means where text, lists of text or anything is taken."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superflow.errors import InputError, suggest
from superflow.option_values import allowed_types, read_terms, read_value

TEXT = [
    *("my wd", "a, b", "a,b", "007", "1e5", "true", "False", "nan", "0x10", "1_000", "-1"),
    *("[x]", "(a,b)", "x [old", "it's", "C:\\data", "a=b"),
]


@pytest.mark.parametrize(
    ("annotation", "names"),
    [
        ("str | Path | None", {"str", "Path", "None"}),
        ("str | Sequence[str] | None", {"str", "texts", "None"}),
        ("tuple[str, ...]", {"texts"}),
        ("Sequence[str | Path]", {"texts"}),
        ("Sequence[float]", {"Sequence"}),
        ("Mapping[str, Any] | None", {"Mapping", "None"}),
        ("int | str", {"int", "str"}),
        ("'str'", {"str"}),
        ("a.b.LogIndex | str", {"LogIndex", "str"}),
        ('Literal["a", "b"]', {"str"}),
        ('bool | Literal["weights"]', {"bool", "str"}),
        (str, {"str"}),
        (int | None, {"int", "None"}),
        (Optional[str], {"str", "None"}),  # noqa: UP045
        (Union[str, Path], {"str", "Path"}),  # noqa: UP007
        (Sequence[str], {"texts"}),
        (list[str], {"texts"}),
        (Literal["a"], {"str"}),
        (inspect.Parameter.empty, set()),
        (lambda: None, set()),
    ],
)
def test_types_of_an_annotation(annotation: Any, names: set[str]) -> None:
    assert allowed_types(annotation) == names
    if names:
        assert allowed_types(annotation, None) == names | {"None"}


@pytest.mark.parametrize(
    "annotation", ["str", "str | Path", "Path | None", "str | Path | LogIndex", 'Literal["a"]']
)
@pytest.mark.parametrize("text", TEXT)
def test_text_stays_text_where_text_is_taken(annotation: str, text: str) -> None:
    allowed = allowed_types(annotation)
    assert read_value(text, allowed) == text
    assert read_value(f"'{text}'", allowed) == text
    assert read_value(f' "{text}" ', allowed) == text


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_any_name_is_a_path(text: str) -> None:
    if text[0] not in "'\"":
        assert read_value(text, frozenset({"str", "Path"})) == text


@pytest.mark.parametrize("text", [*TEXT, "None", ""])
def test_quotes_keep_text_where_anything_is_taken(text: str) -> None:
    if "'" not in text:
        assert read_value(f"'{text}'") == text
        assert read_value(f"['{text}', 1]") == [text, 1]
    assert read_value(f'"{text}"') == text
    assert read_value(f'("{text}",)') == (text,)


def test_none_is_none_only_where_it_is_taken() -> None:
    assert read_value("None", frozenset({"str", "None"})) is None
    assert read_value("None", frozenset({"str"})) == "None"
    assert read_value("'None'", frozenset({"str", "None"})) == "None"
    assert read_value("None") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0001", 1),
        ("1e5", 1e5),
        ("-0.5", -0.5),
        ("true", True),
        ("False", False),
        ("my word", "my word"),
        ("", ""),
        ("1,2", [1, 2]),
        ("1,", [1]),
        ("[]", []),
        ("()", ()),
        ("(1,)", (1,)),
        ("[1,(x,2.5)]", [1, ("x", 2.5)]),
        ("[[1, 2], [3]]", [[1, 2], [3]]),
        ("(a b,c)", ("a b", "c")),
        ("['1', 1, \"a,b\", 'c]']", ["1", 1, "a,b", "c]"]),
        ("dict(a=1,b=2)", "dict(a=1,b=2)"),
    ],
)
def test_elsewhere_numbers_lists_and_words_are_what_they_look_like(text: str, value: Any) -> None:
    read = read_value(text)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(("text", "value"), [("1e5", 100_000), ("7", 7), ("2.5", 2.5), ("x", "x")])
def test_whole_floats_are_integers_where_integers_are_taken(text: str, value: Any) -> None:
    read = read_value(text, frozenset({"int", "None"}))
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["[1,2", "1]", "(1]", "[(1,2]", "a,[b"])
def test_a_bracket_that_is_not_closed_is_said(text: str) -> None:
    with pytest.raises(InputError, match=r"^a bracket is not closed; write \[a,b\] or \(a,b\), and put text"):
        read_value(text)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("0001", "0001"),
        ("1e5,true", ["1e5", "true"]),
        ("'a,b'", "a,b"),
        ("['a,b',c]", ["a,b", "c"]),
        ("[::2]", "[::2]"),
        ("[[::2]]", ["[::2]"]),
        ("[0:9],[-5:]", ["[0:9]", "[-5:]"]),
        ("Tuesday drive", "Tuesday drive"),
    ],
)
def test_terms_are_cut_at_commas(text: str, terms: Any) -> None:
    assert read_terms(text) == terms
    assert read_value(text, allowed_types("str | Sequence[str]")) == terms
    assert read_value(text, allowed_types("Sequence[str]")) == ([terms] if isinstance(terms, str) else terms)


def test_a_suggestion_is_never_empty() -> None:
    assert suggest("widht", ["depth", "width"]) == "; the nearest known one is 'width'"
    assert suggest("zzz", ["a"]) == "; the nearest known one is 'a'"
    assert suggest("x", []) == ""
