# After HilDA, with the small student: the teacher's last two scales through heads of their own, and whole clouds
# against whole images. Without its occupancy diffusion; its code is not public.
#   superflow prepare features --index work_dirs/prepared --frames train --components 0 \
#       --out work_dirs/prepared/features/efficientnet_lite0_scales
#   superflow train pretrain/after_hilda_small.py --work-dir work_dirs/after_hilda
_base_ = ["regression_small.py"]

model = dict(objectives=[dict(type="stage_regression"), dict(type="global_regression")])
train_dataloader = dict(
    dataset=dict(views=dict(features="work_dirs/prepared/features/efficientnet_lite0_scales"))
)
