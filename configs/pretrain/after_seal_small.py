# After Seal, with the small student: regions over two times, and points drawn to the mean of their region. Its training
# code is not public; cells of the world stand in for its masks and for its segments of the cloud.
#   superflow train pretrain/after_seal_small.py --work-dir work_dirs/after_seal
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_pretrain.py"]

model = dict(
    objectives=[
        dict(type="spatial", max_rows=1024),
        dict(type="temporal", max_rows=1024),
        dict(type="point_to_region"),
    ],
    region=dict(scope="clip"),
    pixels="hit",
)
train_dataloader = dict(
    dataset=dict(times=dict(offsets=(0.0, 0.5)), clouds=dict(sweeps=0), region="world_cell", cell_m=1.0)
)
train_cfg = dict(max_iters=220)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
