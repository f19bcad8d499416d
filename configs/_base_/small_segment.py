# The small student with a linear head, on labelled frames.

data_root = "work_dirs/prepared"

model = dict(
    type="Segmentor",
    num_classes=None,  # those of the data's card
    encoder=dict(
        grid=dict(type="cubic", size_m=0.25),
        backbone=dict(depth="tiny"),
        inputs=("intensity", "height", "range", "one"),
        reduce="mean",
    ),
)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    dataset=dict(
        type="SegmentDataset",
        index=data_root,
        frames="train",
        train=True,
        limits=dict(range_m=(1.5, 60.0), height_m=(-5.0, 14.0)),
        max_points=60_000,  # in use scans are whole, and what learned from thin ones errs on them
    ),
)
val_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dict(type="SegmentDataset", index=data_root, frames="val")
)
test_dataloader = val_dataloader
