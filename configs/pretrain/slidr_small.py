# SLidR with the small student: SLIC superpixels, ids of their own in every image, one time, no dense cloud.
#   superflow prepare superpixels --index work_dirs/prepared --frames train
#   superflow prepare features --index work_dirs/prepared --frames train
#   superflow train pretrain/slidr_small.py --work-dir work_dirs/slidr
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_pretrain.py"]

model = dict(objectives=[dict(type="spatial")], region=dict(scope="image"))
train_dataloader = dict(
    dataset=dict(
        times=dict(offsets=(0.0,)), clouds=dict(sweeps=0), superpixels="work_dirs/prepared/superpixels/slic"
    )
)
train_cfg = dict(max_iters=220)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
