"""What docs/agents.md shows for a checkpoint and nuScenes runs, on a tiny one of its layout and on a small log."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("transformers", reason="needs the extra agents")
pytest.importorskip("peft", reason="needs the extra agents")
from superflow.agents.benchmarks import nuscenes_qa
from superflow.agents.benchmarks.frames import frame_names
from superflow.agents.benchmarks.nuscenes_qa_made import made_questions
from superflow.agents.scene_log import scene_of
from superflow.agents.vlm.build import load_vlm
from superflow.hub.backbone import save_backbone
from superflow.tools.score_answers import main

from .test_pretrained import write


def test_the_recipe_for_nuscenes_qa_runs(
    repository, small_index, small_backbone, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    write(tmp_path / "checkpoint")
    save_backbone(small_backbone.encoder, tmp_path / "backbone.safetensors", small_backbone.card)
    for part, scene in (("train", "scene-0001"), ("val", "scene-0003")):
        scenes = [scene_of(small_index, int(row), points=False) for row in small_index.rows([scene])]
        made = [*made_questions(scenes, 5, frame_of=frame_names(small_index), names=["exist", "count"])]
        elsewhere = nuscenes_qa.Question("0" * 32, "Is there a bus?", "no", 0, "exist")
        nuscenes_qa.write_questions([*made, elsewhere], f"NuScenes_{part}_questions.json")
    page = (repository / "docs" / "agents.md").read_text()
    section = page.split("### A real InternVL3.5 checkpoint", 1)[1].split("\n### ", 1)[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for shown, here in (
        ("work_dirs/nuscenes", str(small_index.folder)),
        ("OpenGVLab/InternVL3_5-1B-HF", str(tmp_path / "checkpoint")),
        ("steps=20_000, batch=16", "steps=2, batch=2"),
    ):
        assert shown in code
        code = code.replace(shown, here)
    exec(code, {})
    assert len(nuscenes_qa.read_questions("questions.json")) == 5  # that of a frame elsewhere is left out
    words = ["--form", "nuscenes-qa", "--questions", "questions.json", "--answers", "answers.json"]
    assert main(words) == 0
    assert "exist" in capsys.readouterr().out
    model, _ = load_vlm(tmp_path / "vlm")
    assert model.config.tokens_per_scan == 256
