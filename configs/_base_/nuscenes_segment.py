# The published student with a linear head on nuScenes-lidarseg, for GPUs.

data_root = "work_dirs/prepared"

model = dict(
    type="Segmentor",
    num_classes=None,  # those of the data's card
    encoder=dict(
        grid=dict(type="cylinder", rho_m=0.1, phi_deg=1.0, z_m=0.1),
        backbone=dict(depth=34, momentum=0.02),
        inputs="published",
        reduce="first",
    ),
    # how far the sensor measures, see nuscenes_pretrain.py; what lies beyond is left out of training and is an error
    # in evaluation
    limits=dict(range_m=(0.0, 100.0), height_m=(-30.0, 30.0)),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    dataset=dict(
        type="SegmentDataset",
        index=data_root,
        frames="train",
        train=True,
        raw_intensity=True,
        limits=dict(range_m=(0.0, 100.0), height_m=(-30.0, 30.0)),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    dataset=dict(type="SegmentDataset", index=data_root, frames="val", raw_intensity=True),
)
test_dataloader = val_dataloader
# learning rates are for 16 scans at a time, the published 4 GPUs x 4; with other batches they are scaled in proportion,
# and the log says to what before the first step
auto_scale_lr = dict(enable=True, base_batch_size=16)
