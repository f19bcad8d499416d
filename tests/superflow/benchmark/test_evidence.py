"""The page of figures: means, labels saved, commands."""

from __future__ import annotations

import math
import re
import shutil

import numpy as np
import pytest

from superflow.benchmark import corruptions
from superflow.benchmark.evidence.arms_picture import draw_arms
from superflow.benchmark.evidence.budget_picture import draw_budgets
from superflow.benchmark.evidence.page import SCRATCH, labels_needed, savings, tables, write_page
from superflow.benchmark.evidence.robustness_table import robustness_lines
from superflow.benchmark.evidence.scaling_curves import panels
from superflow.benchmark.evidence.ties import leaders
from superflow.benchmark.evidence.trial_table import trial_lines
from superflow.benchmark.rows import COLUMNS, RowFile
from superflow.datasets.card import load_card
from superflow.datasets.corruptions.domain import LEVELS
from superflow.datasets.corruptions.models import CORRUPTIONS, Variant
from superflow.errors import InputError, MissingFileError
from superflow.tools import evidence


def row(arm="random", source="nothing", seed=0, miou=10.0, labelled=100, **values):
    known = {"source": source, "arm": arm, "seed": seed, "mIoU": miou, "labelled points": labelled}
    shared = {"evaluation log": "kitti", "measure": "fine-tuning", "budget": f"{labelled} points"}
    made = {
        "command": f"superflow benchmark p --arms {arm}",
        "commit": "0123456789abcdef",
        "device": "a core",
    }
    return {**dict.fromkeys(COLUMNS, ""), **known, **shared, **made, **values}


KITTI = {"label set": "semantickitti, 19 classes, 4d440262", "budget": "all"}
ROWS = [
    row(miou=10.0, seed=0),
    row(miou=12.0, seed=1),
    row(miou=21.0, labelled=10_000),
    row("SLidR", "made", miou=16.0),
    row("SLidR", "made", miou=22.0, labelled=10_000),
    row(miou=22.0, labelled=100_000),
    row("SLidR", "made", miou=23.0, labelled=100_000),
]


def test_labels_that_scratch_needs_are_linear_in_their_logarithm():
    curve = [(100.0, 10.0), (10_000.0, 20.0), (100_000.0, 20.0)]
    assert labels_needed(curve, 15.0) == pytest.approx(1000)
    assert labels_needed(curve, 10.0) == pytest.approx(100)
    assert labels_needed(curve, 20.0) == pytest.approx(10_000)  # the first place where it is reached
    assert labels_needed(curve, 21.0) is None
    assert labels_needed(curve, 9.0) == -math.inf
    assert labels_needed([], 9.0) is None
    assert labels_needed([(100, 20.0), (1000, 15.0), (10_000, 25.0)], 20.0) == 100


def test_the_page_has_means_spread_savings_and_commands(tmp_path):
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "introduction.md").write_text("# Evidence\n\nFew scans.\n")
    RowFile(folder / "places.csv").add(ROWS)
    # trials are no figures
    RowFile(folder / "places_recipes.csv").add([row(miou=99.9, recipe="rate=0.1 steps=3")])
    assert evidence.main([str(folder)]) == 0
    text = (tmp_path / "evidence.md").read_text()
    assert text.startswith("# Evidence\n\nFew scans.\n\n## places\n")
    assert "| pretrained on | arm | CPU min | 100 points | 10000 points | 100000 points |" in text
    assert "| nothing | random | - | 11.0 (10.0 to 12.0, 2 seeds) | 21.0 | 22.0 |" in text
    # 16 is half way from 11 to 21: ten times the labels
    assert "| made | SLidR | 10 | 10 | over 1 |" in text
    assert text.count("99.9") == 1
    assert "| recipe | random (nothing) |\n|---|---|\n| the one that was tried | **99.9** |" in text
    few = row("PPKT", "made", miou=16.0, labelled=2)  # 16 is what scratch reaches at 1000 points
    assert savings(tables([*ROWS, few])[("kitti", "fine-tuning")])[-1].startswith("| made | PPKT | 500 |")
    assert text.count("- `superflow benchmark p --arms SLidR` (0123456789ab, a core)") == 1
    assert "![mIoU at every budget of labels](evidence/places-kitti.png)" in text
    assert (folder / "places-kitti.png").read_bytes().startswith(b"\x89PNG")
    assert write_page(folder).read_text() == text  # made again, it is the same


def test_a_table_comes_with_its_own_text_where_the_introduction_links_to_it(tmp_path):
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "introduction.md").write_text(
        "# Evidence\n\nSee [z](evidence/z.csv), [b](evidence/b.csv), a.csv.\n"
    )
    (folder / "b.md").write_text("## Seven peers\n\nThey tie.\n")
    for name in ("a", "b", "c", "z"):
        RowFile(folder / f"{name}.csv").add(ROWS)
    text = write_page(folder).read_text()
    assert re.findall("^## .*", text, re.MULTILINE) == ["## z", "## Seven peers", "## a", "## c"]
    assert "## Seven peers\n\nThey tie.\n\nFrom [b.csv](evidence/b.csv)" in text


def test_recipes_are_a_row_each_named_by_what_differs_and_the_best_of_each_backbone_is_bold():
    trials = [
        row(miou=8.0, recipe="rate=0.012 steps=300 keep=all"),
        row(miou=9.0, recipe="rate=0.006 steps=300 keep=all"),
        row("mine", "elsewhere", miou=7.0, recipe="rate=0.006 steps=300 keep=all"),
        row("mine", "elsewhere", miou=7.5, recipe="rate=0.006 steps=600 keep=all"),
        row(miou=50.0, recipe="rate=1 steps=1 keep=all", budget="another budget"),
        row(miou="", recipe="rate=2 steps=1 keep=all", budget="a third"),
    ]
    lines = trial_lines({key: str(value) for key, value in each.items()} for each in trials)
    assert [line for line in lines if line.startswith("Of")] == [
        "Of kitti, 100 points:",
        "Of kitti, another budget:",
    ]
    assert lines[6:11] == [
        "| recipe | random (nothing) | mine (elsewhere) |",
        "|---|---|---|",
        "| rate 0.006, steps 300 | **9.0** | 7.0 |",
        "| rate 0.006, steps 600 | - | **7.5** |",
        "| rate 0.012, steps 300 | 8.0 | - |",
    ]


def test_recipes_of_two_measures_at_one_budget_are_two_tables():
    """A search picks its own best in each; the same recipe may be a trial of both."""
    trials = [
        row(measure=measure, miou=miou, recipe=f"rate={rate} steps=300")
        for measure, rates in (("fine-tuning", {1: 8.0, 2: 9.0}), ("semi-supervised", {1: 5.0, 2: 4.0}))
        for rate, miou in rates.items()
    ]
    lines = trial_lines({key: str(value) for key, value in each.items()} for each in trials)
    assert [line for line in lines if line.startswith(("Of", "| rate"))] == [
        "Of kitti, 100 points, fine-tuning:",
        "| rate 1 | 8.0 |",
        "| rate 2 | **9.0** |",
        "Of kitti, 100 points, semi-supervised:",
        "| rate 1 | **5.0** |",
        "| rate 2 | 4.0 |",
    ]


def test_the_shipped_page_is_what_its_tables_make(tmp_path, repository):
    shutil.copytree(repository / "docs" / "evidence", tmp_path / "evidence")
    assert (
        write_page(tmp_path / "evidence").read_text() == (repository / "docs" / "evidence.md").read_text()
    ), "write docs/evidence.md anew: superflow evidence docs/evidence"


def test_without_scratch_nothing_is_saved():
    (table,) = tables([{k: str(v) for k, v in r.items()} for r in ROWS]).values()
    assert savings(table)
    assert savings({key: cells for key, cells in table.items() if key != SCRATCH}) == []


def test_a_folder_without_tables_is_named(tmp_path, capsys):
    with pytest.raises(MissingFileError, match="holds no table of figures"):
        write_page(tmp_path)
    assert evidence.main([str(tmp_path)]) == 2


def test_corrupted_scans_are_a_table_of_what_is_left(tmp_path):
    """Two seeds; the figures are written out by hand."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    rows = [row(measure="robustness: clean", seed=seed, miou=40.0, **KITTI) for seed in (0, 1)]
    for name in CORRUPTIONS:
        rows += [
            row(measure=f"robustness: {name}/{level}", seed=seed, miou=10.0 * (k + 1) + seed, **KITTI)
            for k, level in enumerate(LEVELS)
            for seed in (0, 1)
        ]
    few = [r for r in rows if "fog" in r["measure"] or "clean" in r["measure"]]
    rows += [{**r, "arm": "SLidR", "source": "made"} for r in few]
    RowFile(folder / "places.csv").add(rows)
    text = write_page(folder).read_text()
    baselines = (55.87, 53.99, 53.28, 32.92, 56.32, 58.34, 54.43, 46.05)  # MinkUNet-18 on SemanticKITTI-C
    mce = sum(100 * (100 - 20.5) / (100 - b) for b in baselines) / 8
    assert f"| nothing | random | 2 | 40.0 | {'20.5 | ' * 8}{mce:.1f} | {100 * 20.5 / 40:.1f} |" in text
    assert f"| made | SLidR | 2 | 40.0 | 20.5 | {'- | ' * 7}- | - |" in text
    assert "### robustness" not in text


def test_a_mean_over_levels_is_of_all_of_them_and_of_every_seed():
    """Rows that a stopped copy or an editor left out would else flatter a backbone."""
    names = ["clean", *(f"{name}/{level}" for name in CORRUPTIONS for level in LEVELS)]
    rows = [
        {**row(measure=f"robustness: {name}", seed=seed, **KITTI), "mIoU": "40.0"}
        for name in names
        for seed in (0, 1)
    ]
    (whole,) = (line for line in robustness_lines(rows) if line.startswith("| nothing "))
    assert whole.count(" 40.0 |") == 9
    for lost in ("fog/heavy", "clean"):
        kept = [r for r in rows if (r["measure"], r["seed"]) != (f"robustness: {lost}", 1)]
        (line,) = (line for line in robustness_lines(kept) if line.startswith("| nothing "))
        assert line.count(" 40.0 |") == 8
        assert line.endswith("| - | - |")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[3 + ["clean", *CORRUPTIONS].index(lost.partition("/")[0])] == "-"
    rows[0]["leakage"] = "a drive"
    (line,) = (line for line in robustness_lines(rows) if line.startswith("| nothing "))
    assert line.count(" 40.0† |") == 9


@pytest.mark.parametrize("name", ["recipes", "myrecipes", "other_recipes"])
def test_trials_without_their_figures_are_named(tmp_path, name):
    RowFile(tmp_path / "places.csv").add(ROWS)
    RowFile(tmp_path / f"{name}.csv").add(ROWS)
    with pytest.raises(
        InputError, match=f"{name}.csv: is named like a table of trials, and no table of figures"
    ):
        write_page(tmp_path)


def test_an_edited_recipe_is_still_named():
    trials = [row(recipe=recipe) for recipe in ("rate=1 steps=3", "rate 2 steps=3")]
    lines = trial_lines({key: str(value) for key, value in each.items()} for each in trials)
    assert [line for line in lines if line.startswith("| rate")] == [
        "| rate, 2 | **10.0** |",
        "| rate 1 | **10.0** |",
    ]


@pytest.mark.parametrize(
    ("label_set", "has_baseline"),
    [
        ("semantickitti, 19 classes, 4d440262", True),
        ("semantickitti moving, 25 classes, 4d440262", False),
        ("semantickitti, 7 classes, 4d440262", False),  # one's own card of that name
        ("pandaset, 16 classes, 4d440262", False),
        ("", False),
    ],
)
def test_errors_relative_to_a_baseline_are_of_its_classes(label_set, has_baseline):
    names = ["clean", *(f"{name}/{level}" for name in CORRUPTIONS for level in LEVELS)]
    rows = [row(measure=f"robustness: {name}", miou=40.0, budget="all") for name in names]
    lines = robustness_lines([{**r, "mIoU": "40.0", "label set": label_set} for r in rows])
    (cells,) = (line.split("|")[-3:-1] for line in lines if line.startswith("| nothing "))
    assert (cells[0].strip() != "-", cells[1].strip()) == (has_baseline, "100.0")


@pytest.mark.parametrize(
    ("change", "variant", "baseline"),
    [
        ({}, "fog/heavy", "semantickitti"),
        ({}, "fog/heavy/corrected", ""),  # the baseline has the mistakes of the published code
        ({"label_set": "moving"}, "fog/heavy", ""),
    ],
)
def test_a_test_on_corrupted_scans_has_the_baseline_of_its_classes(change, variant, baseline):
    assert corruptions._baseline(load_card("semantickitti", **change), [Variant.parse(variant)]) == baseline


def test_names_that_are_numbers_of_something_make_curves(tmp_path):
    """A line over scenes for each arm, one over steps for each source; a single point is no line."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    probe = {"measure": "linear probe", "budget": "all", "labelled": ""}
    rows = [
        row("300 steps", "90 scenes", miou=20.0, seed=0, **probe),
        row("300 steps", "90 scenes", miou=22.0, seed=1, **probe),
        row("300 steps", "10 scenes", miou=15.0, **probe),
        row("900 steps", "90 scenes", miou=25.0, **probe),
        row("900 steps", "nothing varies", miou=11.0, **probe),
        row("no. 3", "nothing varies", miou=11.0, **probe),
        row("300 steps", "10 scenes", miou=16.0, budget="7 scans"),
        row("300 steps", "90 scenes", miou="", budget="7 scans"),
    ]
    RowFile(folder / "scaling.csv").add(rows)
    assert panels(RowFile(folder / "scaling.csv").read()) == {
        ("scenes", "linear probe"): {"300 steps": {10: [15.0], 90: [20.0, 22.0]}},
        ("steps", "linear probe"): {"90 scenes": {300: [20.0, 22.0], 900: [25.0]}},
    }
    more = [
        row(arm, source, **probe)
        for source in ("100 scenes", "9 scenes")
        for arm in ("300 steps", "900 steps")
    ]
    assert list(panels([*more, *rows])["steps", "linear probe"]) == ["9 scenes", "90 scenes", "100 scenes"]
    text = write_page(folder).read_text()
    assert (
        "### Curves over scenes and steps on kitti\n\n![mIoU over scenes and steps](evidence/scaling-" in text
    )
    assert (folder / "scaling-kitti-curves.png").read_bytes().startswith(b"\x89PNG")


def slow_leaders(seeds):
    """By comparing each seed of one with each of the other."""
    known = {name: values for name, values in seeds.items() if len(values) > 1}
    best = max(known, key=lambda name: np.mean(known[name]), default=None)
    alone = [values[0] for values in seeds.values() if len(values) == 1]
    if best is not None and any(figure >= other for figure in alone for other in known[best]):
        return set()
    behind = [
        name
        for name in known
        if name != best and all(own < other for own in known[name] for other in known[best])
    ]
    return {name for name in known if name not in behind}


def test_what_lies_inside_the_seeds_spread_ties():
    assert leaders({}) == leaders({"a": [3.0]}) == []
    assert leaders({"a": [1.0, 3.0], "b": [3.0, 3.5], "c": [0.0, 2.9], "d": [2.0]}) == ["b", "a"]
    assert leaders({"a": [1.0, 3.0], "b": [3.0, 3.5], "d": [3.1]}) == []  # d might lead or tie
    generator = np.random.default_rng(0)
    for _ in range(200):
        count = generator.integers(1, 5)
        seeds = {
            str(k): generator.normal(k, 2.0, generator.integers(1, 4)).round(1).tolist() for k in range(count)
        }
        assert set(leaders(seeds)) == slow_leaders(seeds)


def test_measures_of_one_budget_stand_beside_each_other_and_ties_are_named(tmp_path):
    folder = tmp_path / "evidence"
    folder.mkdir()
    rows = [
        row(
            arm,
            "made",
            seed,
            miou,
            measure=measure,
            budget=budget,
            **{"CPU seconds of pretraining": 90.0 + 60 * seed},
        )
        for measure, budget, figures in (
            ("linear probe", "all", {"SLidR": (20.0, 24.0), "PPKT": (21.0, 22.0)}),
            ("fine-tuning", "7 scans", {"SLidR": (30.0, 31.0), "PPKT": (20.0, 21.0)}),
        )
        for arm, values in figures.items()
        for seed, miou in enumerate(values)
    ]
    RowFile(folder / "peers.csv").add(rows)
    text = write_page(folder).read_text()
    assert "### One budget on kitti\n\n| pretrained on | arm | CPU min |" in text
    assert "| pretrained on | arm | CPU min | fine-tuning, 7 scans | linear probe |\n" in text
    slidr = "| made | SLidR | 2 | **30.5** (30.0 to 31.0, 2 seeds) | **22.0** (20.0 to 24.0, 2 seeds) |\n"
    ppkt = "| made | PPKT | 2 | 20.5 (20.0 to 21.0, 2 seeds) | **21.5** (21.0 to 22.0, 2 seeds) |\n"
    assert slidr + ppkt in text or ppkt + slidr in text
    assert "\nTies: linear probe: SLidR (made), PPKT (made).\n" in text


def test_only_backbones_with_all_budgets_are_drawn(tmp_path):
    """A line over a budget that was not measured would promise a figure."""
    both = {"few": {"7 x 9": (1.0, 2.0)}, "whole": {"1": (2.0,), "7": (3.0,)}}
    whole = {"few": {}, "whole": {"1": (2.0,), "7": (3.0,)}}
    picture = tmp_path / "budgets.png"
    figures = {"scratch": both, "half": whole, "mine": both}
    assert draw_budgets(figures, picture, "mIoU", baseline="scratch") == ["scratch", "mine"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert draw_budgets({"half": whole}, tmp_path / "none.png", "mIoU", baseline="scratch") == []
    other = {"few": {"30 x 9": (1.0,)}, "whole": both["whole"]}  # as many, but others
    for wrong in ({"scratch": both, "other": other}, {"scratch": other, "mine": both, "both": both}):
        assert draw_budgets(wrong, tmp_path / "none.png", "mIoU", baseline="scratch") == []
    alone = {"scratch": figures["scratch"], "half": whole}
    assert draw_budgets(alone, tmp_path / "none.png", "mIoU", baseline="scratch") == []
    assert not (tmp_path / "none.png").exists()


def test_many_arms_are_drawn_in_the_order_of_their_best_source(tmp_path):
    picture, scratch = tmp_path / "arms.png", ("nothing", "random")
    probe = {("made", name): (float(number),) for number, name in enumerate("abcde")}
    probe |= {scratch: (9.0,), ("street", "b"): (3.0, 8.0)}
    figures = {"probe": probe, "fine-tuning": {who: (30.0,) for who in probe}}
    assert draw_arms(figures, picture, "mIoU", baseline=scratch) == ["b", "e", "d", "c", "a"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    few = {panel: dict(list(of.items())[1:]) for panel, of in figures.items()}
    for little in ({"probe": probe}, {**figures, "fine-tuning": few["probe"]}, {}):
        assert draw_arms(little, tmp_path / "none.png", "mIoU", baseline=scratch) == []
    assert not (tmp_path / "none.png").exists()


def test_the_page_shows_many_arms_as_a_picture(tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    measures = [("kitti", "linear probe"), ("street", "linear probe"), ("street, new places", "linear probe")]
    rows = [
        row(arm, "made", miou=20.0 + number, budget="all", measure=measure, **{"evaluation log": log})
        for number, arm in enumerate(("SLidR", "PPKT", "Seal", "ScaLR", "DOS"))
        for log, measure in measures
    ]
    RowFile(folder / "peers.csv").add(rows)
    assert "![each way of pretraining, by source](figures/peers-arms.png)" in write_page(folder).read_text()
    assert (folder / "peers-arms.png").is_file()
    shutil.rmtree(folder)
    folder.mkdir()
    RowFile(folder / "peers.csv").add([row for row in rows if row["arm"] != "DOS"])
    assert "peers-arms" not in write_page(folder).read_text()


@pytest.mark.parametrize("column", ["split hash", "settings hash", "label set"])
def test_no_mean_is_taken_of_seeds_that_were_made_otherwise(column, tmp_path):
    """As of rows of two runs with other plans in one table."""
    RowFile(tmp_path / "places.csv").add([row(seed=0, **{column: "aa"}), row(seed=1, **{column: "bb"})])
    with pytest.raises(
        InputError, match=rf"the seeds of random kitti fine-tuning .* have several {column} \(aa, bb\)"
    ):
        write_page(tmp_path)


def test_the_page_has_the_whole_name_of_the_folder(tmp_path, monkeypatch):
    """A dot in it is no ending: results.md may be another page."""
    folder = tmp_path / "results.v2"
    folder.mkdir()
    RowFile(folder / "places.csv").add(ROWS)
    (tmp_path / "results.md").write_text("mine")
    assert write_page(folder) == tmp_path / "results.v2.md"
    monkeypatch.chdir(folder)
    assert evidence.main(["."]) == 0
    assert (tmp_path / "results.md").read_text() == "mine"


def test_an_introduction_that_is_no_text_is_one_sentence(tmp_path):
    RowFile(tmp_path / "places.csv").add(ROWS)
    (tmp_path / "introduction.md").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"introduction.md: is not UTF-8 text"):
        write_page(tmp_path)
