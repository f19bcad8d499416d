# ScaLR with the small student: distance of normalised features, points of one random camera, no head on the image.
#   superflow train pretrain/scalr_small.py --work-dir work_dirs/scalr
_base_ = ["regression_small.py"]

model = dict(objectives=[dict(type="point_regression", kind="l2")])
train_dataloader = dict(dataset=dict(cameras_per_clip=1))
