"""`superflow test --corruptions` and a benchmark of places in a corrupted variant."""

from __future__ import annotations

import json

import pytest

from superflow.datasets.corruptions.models import chosen_variants
from superflow.errors import InputError
from superflow.tools.main import main

CONFIG = "downstream/supervised_small.py"
WIDTH = "model.encoder.backbone.width=0.25"


@pytest.fixture(scope="module")
def run(prepared_log, tmp_path_factory) -> list[str]:
    """Words of the command that tests a trained run."""
    work = tmp_path_factory.mktemp("run")
    where = ["--data-root", str(prepared_log / "prepared")]
    options = ["--cfg-options", WIDTH]
    assert main(["train", CONFIG, "--work-dir", str(work), *where, *options, "train_cfg.max_iters=12"]) == 0
    return ["test", CONFIG, str(work), *where, "--corruptions", "ARGUMENTS", *options]


def with_arguments(run: list[str], *names: str) -> list[str]:
    place = run.index("ARGUMENTS")
    return [*run[:place], *names, *run[place + 1 :]]


def test_names_are_levels_or_whole_corruptions():
    assert len(chosen_variants([])) == 24
    few = chosen_variants(["snow/heavy", "fog", "fog/light"])
    assert [str(v) for v in few] == ["fog/light", "fog/moderate", "fog/heavy", "snow/heavy"]
    assert str(chosen_variants(["fog/light"], is_published=False)[0]) == "fog/light/corrected"
    with pytest.raises(InputError, match="no corruption 'rain'"):
        chosen_variants(["rain"])


def test_a_model_is_judged_on_the_same_scans_corrupted(run, capsys):
    work = run[2]
    assert main(with_arguments(run, "beam_missing", "crosstalk/heavy")) == 0
    table = capsys.readouterr().out
    with open(f"{work}/test_corruptions.json") as file:
        report = json.load(file)
    assert report["corrupted"].keys() == {"beam_missing", "crosstalk"}
    assert list(report["corrupted"]["beam_missing"]) == ["light", "moderate", "heavy"]
    assert (report["mCE"], report["mRR"], report["left_out"]) == (None, None, {}), "of all eight or of none"
    assert report["resilience"].keys() == {"beam_missing"}
    with open(f"{work}/test_result.json") as file:
        assert json.load(file)["metrics"]["miou"] == pytest.approx(report["clean"], abs=0.01)
    for name, level in (("beam_missing", "moderate"), ("crosstalk", "heavy")):
        with open(f"{work}/corruptions/{name}/{level}/test_result.json") as file:
            result = json.load(file)
        assert result["data"]["test"]["variant"] == f"{name}/{level}"
        assert result["metrics"]["miou"] == pytest.approx(report["corrupted"][name][level], abs=0.01)
    assert [
        line.split()[0] for line in table.splitlines() if line.startswith(("clean", "beam", "cross"))
    ] == [*("clean", "beam_missing", "crosstalk")]


def test_corruptions_that_cannot_be_are_said(run, capsys):
    for names, said in (
        (["rain"], "there is no corruption 'rain'"),
        (["fog/strong"], "light, moderate, heavy"),
    ):
        assert main(with_arguments(run, *names)) == 2
        assert said in capsys.readouterr().err
    plain = [word for word in run if word not in ("--corruptions", "ARGUMENTS")]
    assert main([*plain[:3], "--corrected", *plain[3:]]) == 2
    assert "give --corruptions with it" in capsys.readouterr().err
    assert main([*with_arguments(run, "fog/light"), "test_dataloader.dataset.variant=snow/light"]) == 2
    assert "corruptions are of a clean SegmentDataset" in capsys.readouterr().err
