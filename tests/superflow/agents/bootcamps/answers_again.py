"""The answer of every family a second time, written from its sentence with other means than the family's own.

A family whose question is a query is answered by the twin of the executor; the others stand in ``ANSWERS``.
"""

from __future__ import annotations

from superflow.agents.query_parse import parse_query

from ..query_twin import twin_answer

ANSWERS = {}


def again(scene, identity):
    """The answer of a case by its second implementation."""
    asked = identity["asked"]
    if identity["family"] in ANSWERS:
        return ANSWERS[identity["family"]](scene, asked)
    assert "query" in asked, f"write the answer of {identity['family']} a second time, in ANSWERS"
    return twin_answer(
        parse_query(asked["query"]), scene, min_points=asked["min_points"], max_range_m=asked["max_range_m"]
    )
