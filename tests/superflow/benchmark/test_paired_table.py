"""What a backbone gains on single draws of labels: pairs of the same scans alone, their mean and ends."""

from __future__ import annotations

from superflow.benchmark.evidence.paired_table import paired_lines
from superflow.benchmark.rows import COLUMNS

SCRATCH = ("nothing", "random")
BUDGETS = ["1 scan", "7 scans"]


def row(arm, seed, miou, *, budget="1 scan", tokens="", split="a"):
    source = "nothing" if arm == "random" else "made"
    figure = {"source": source, "arm": arm, "seed": str(seed), "budget": budget, "mIoU": f"{miou}"}
    return {**dict.fromkeys(COLUMNS, ""), **figure, "token list": tokens, "split hash": split}


def lines(rows):
    return [line for line in paired_lines(rows, SCRATCH, BUDGETS)[2:] if line][2:]


def test_differences_are_of_the_same_seed_whatever_the_order():
    rows = [row("SLidR", 1, 12.5), row("SLidR", 0, 31.0), row("random", 0, 30.0), row("random", 1, 10.0)]
    assert lines(rows) == ["| made | SLidR | +1.8 (+1.0 to +2.5) | - |"]


def test_a_gain_on_each_of_three_draws_is_bold_and_one_loss_ends_that():
    rows = [row("random", seed, 10.0) for seed in range(3)]
    rows += [row("ahead", seed, 11.0 + seed) for seed in range(3)]
    rows += [row("level", seed, 10.0 + seed) for seed in range(3)]
    assert lines(rows) == [
        "| made | ahead | **+2.0** (+1.0 to +3.0) | - |",
        "| made | level | +1.0 (+0.0 to +2.0) | - |",
    ]


def test_other_scans_make_no_pair():
    rows = [row("random", 0, 10.0, tokens="x"), row("SLidR", 0, 15.0, tokens="y")]
    assert lines(rows) == []
    rows += [row("PPKT", 0, 12.0, tokens="x", split="b")]  # the same scans of a log that was prepared anew
    assert lines(rows) == ["| made | PPKT | +2.0 | - |"]
    rows += [row("SuperFlow", 0, 12.0, split="a"), row("ScaLR", 0, 12.0, split="b")]
    assert lines(rows)[1:] == ["| made | SuperFlow | +2.0 | - |"], "tables of before name no list"
    assert lines([row("random", 2, 10.0), row("SLidR", 1, 15.0), row("SLidR", 2, "")]) == []


def test_a_gain_of_a_backbone_that_has_seen_the_drives_is_marked():
    rows = [row("random", seed, 10.0) for seed in (0, 1)] + [row("ahead", seed, 12.0) for seed in (0, 1)]
    rows[-1] |= {"leakage": "a drive"}
    assert lines(rows) == ["| made | ahead | +2.0† (+2.0 to +2.0) | - |"]
    assert lines(rows[1::2]) == ["| made | ahead | +2.0† | - |"]
