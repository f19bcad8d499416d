# Per-point regression to the teacher (ScaLR's loss, cosine form) with the small student: the baseline to beat.
#   superflow train pretrain/regression_small.py --work-dir work_dirs/regression
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_pretrain.py"]

model = dict(objectives=[dict(type="point_regression")], pixels="hit")
train_dataloader = dict(
    dataset=dict(
        times=dict(offsets=(0.0,)),
        # drawn for each cloud: thin ones are cheap, and in use scans are whole
        clouds=dict(sweeps=0, max_points=(4000, 60_000)),
        region="world_cell",
    )
)
train_cfg = dict(max_iters=1250)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
