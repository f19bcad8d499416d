"""`max_rows`: which regions enter a term when there are more, or fewer, than asked for."""

from __future__ import annotations

import torch
from small_batch import table_of

from superflow.method.contrast import contrast
from superflow.method.matches import Matches


def made(rows: int, members: torch.Tensor) -> tuple[Matches, torch.Tensor]:
    """Matches of one time whose row i has ``members[i]`` points, and orthogonal features of all rows."""
    table = table_of(torch.arange(rows), [(0, False)])
    return Matches(table=table, points=members[None], pixels=members[None]), torch.eye(rows)


def test_mistake_34_fewer_rows_than_asked_for_are_all_taken():
    matches, features = made(10, torch.ones(10))
    filled = torch.ones(10, dtype=torch.bool)
    few = contrast(matches, features, features, filled, max_rows=4096)
    torch.testing.assert_close(few, contrast(matches, features, features, filled))


def test_mistake_35_rows_are_drawn_evenly_over_regions():
    """A region of a thousand points is drawn as often as one of a single point."""
    torch.manual_seed(0)
    rows, kept, draws = 12, 4, 3000
    members = torch.ones(rows)
    members[:2] = 1000.0
    matches, features = made(rows, members)
    drawn = torch.zeros(rows)
    for _ in range(draws):
        anchors = features.clone().requires_grad_()
        contrast(matches, anchors, features, members > 0, max_rows=kept).backward()
        drawn += anchors.grad.abs().sum(1) > 0
    expected = draws * kept / rows
    assert (drawn - expected).abs().max() < 5 * (expected * (1 - kept / rows)) ** 0.5
