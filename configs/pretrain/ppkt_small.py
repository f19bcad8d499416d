# PPKT with the small student: points against the pixels they fall on, pair by pair, without regions, one time.
#   superflow train pretrain/ppkt_small.py --work-dir work_dirs/ppkt
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_pretrain.py"]

model = dict(objectives=[dict(type="point_contrast")], pixels="hit")
train_dataloader = dict(dataset=dict(times=dict(offsets=(0.0,)), clouds=dict(sweeps=0), region="world_cell"))
train_cfg = dict(max_iters=450)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
