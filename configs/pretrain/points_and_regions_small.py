# SuperFlow++ and per-point regression together, with the small student.
#   superflow train pretrain/points_and_regions_small.py --work-dir work_dirs/points_and_regions
_base_ = ["superflowpp_small.py"]

model = dict(objectives=[*_base_.model.objectives, dict(type="point_regression")])
