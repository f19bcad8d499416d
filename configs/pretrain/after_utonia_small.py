# After Utonia, with the small student: clouds and points lose their intensity by chance, and a single scan learns from
# the dense cloud of several, which gets no gradient. Regression to the image teacher stands for its self-distillation.
#   superflow train pretrain/after_utonia_small.py --work-dir work_dirs/after_utonia
_base_ = ["regression_small.py"]

model = dict(
    student=dict(inputs=("intensity", "has_intensity", "height", "range", "one")),
    objectives=[
        dict(type="point_regression"),
        dict(type="dense_to_sparse", kind="cosine", stop="dense"),
    ],
)
train_dataloader = dict(
    dataset=dict(
        clouds=dict(sweeps=2),
        cell_m=0.5,
        augmentation=dict(drop_intensity=0.2, drop_point_intensity=0.2),
    )
)
