"""The quickstart's backbone is that of its run, not one that an earlier run has left."""

from __future__ import annotations

from superflow.benchmark.one_log.plan import Arm, Plan
from superflow.hub import encoder_file
from superflow.hub.backbone import BackboneCard, load, save_backbone
from superflow.quickstart import run


def test_the_backbone_is_that_of_the_run(prepared_scans, make_encoder, tmp_path, monkeypatch):
    """A run may be deleted, as a refusal says, and made anew with other frames or another teacher."""
    trained = tmp_path / "trained.safetensors"
    read = encoder_file.read_encoder_file
    monkeypatch.setattr(encoder_file, "read_encoder_file", lambda place: read(trained))
    plan = Plan(arms=(Arm("p", "pretrained", "x.py"),), train=["scene-0001[:2]"], evaluate=["scene-0003"])
    options = run.QuickstartOptions(out=tmp_path)

    def exported(seed: int, plan: Plan) -> tuple[int, str]:
        save_backbone(make_encoder(seed), trained, BackboneCard("trained"))
        file = run._export(prepared_scans, plan, options)
        return file.stat().st_mtime_ns, load(file).card.weights_sha256

    first = exported(0, plan)
    assert exported(0, plan) == first
    other = exported(1, plan)
    assert other[1] != first[1]
    fewer = Plan(arms=plan.arms, train=["scene-0001[:1]"], evaluate=plan.evaluate)
    assert exported(1, fewer)[1] != other[1]  # its batch norm is estimated on them
