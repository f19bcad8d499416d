"""Families whose question is a query: ``asked["query"]`` is its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..query_answer import Answer, Scenery
from ..query_parse import parse_query
from .bootcamp import Bootcamp


class QueryBootcamp(Bootcamp):
    """A family that only draws its queries."""

    @classmethod
    def solve(cls, scenery: Scenery, asked: Mapping[str, Any]) -> Answer:
        return scenery.answer(parse_query(asked["query"]))

    @classmethod
    def sentence(cls, asked: Mapping[str, Any]) -> str:
        text: str = asked["query"]
        return f"{text[0].upper()}{text[1:]}?"
