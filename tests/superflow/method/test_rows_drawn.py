"""`max_rows`: which regions enter a term when there are more, or fewer, than asked for."""

from __future__ import annotations

import torch
from small_batch import table_of, value

from superflow.method.matches import Superpixels, Superpoints


def made(members: torch.Tensor, features: torch.Tensor | None = None) -> dict:
    """Matches of one time whose region i has ``members[i]`` points, and orthogonal features of all regions."""
    regions, count = len(members), members[None]
    table, eye = table_of(torch.arange(regions), [(0, False)]), torch.eye(regions)
    q = eye if features is None else features
    return {
        Superpoints: Superpoints(table, q[None], count, torch.zeros(regions, 0)),
        Superpixels: Superpixels(table, eye[None], count),
    }


def test_mistake_34_fewer_rows_than_asked_for_are_all_taken():
    matches = made(torch.ones(10))
    torch.testing.assert_close(value("spatial", matches, max_rows=4096), value("spatial", matches))


def test_mistake_35_rows_are_drawn_evenly_over_regions():
    """A region of a thousand points is drawn as often as one of a single point."""
    torch.manual_seed(0)
    rows, kept, draws = 12, 4, 3000
    members = torch.ones(rows)
    members[:2] = 1000.0
    drawn = torch.zeros(rows)
    for _ in range(draws):
        anchors = torch.eye(rows).requires_grad_()
        value("spatial", made(members, anchors), max_rows=kept).backward()
        drawn += anchors.grad.abs().sum(1) > 0
    expected = draws * kept / rows
    assert (drawn - expected).abs().max() < 5 * (expected * (1 - kept / rows)) ** 0.5
