# Classes of a made street's points, which cost nothing, with the small student: no images, no teacher, single scans.
#   superflow make-drive --out made
#   superflow prepare nuscenes --root made --out work_dirs/prepared --label-set fine
#   superflow train pretrain/made_labels_small.py --work-dir work_dirs/made_labels
# pretrain/best_small.py learns longer, on varied streets, and begins with what SuperFlow++ learned from images.
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_pretrain.py"]

model = dict(objectives=[dict(type="segmentation")], channels=None)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type="SegmentDataset",
        index="work_dirs/prepared",
        frames="train",
        train=True,
        # drawn for each cloud: thin ones are cheap, and in use scans are whole
        max_points=(4000, 60_000),
        # a made street's sensor is not the one in use
        augmentation=dict(
            scale=(0.9, 1.1),
            height_m=(-0.3, 0.5),
            jitter_m=0.05,
            intensity_gain=(0.5, 1.5),
            intensity_power=(0.5, 2.0),
            drop_intensity=0.1,
        ),
        limits=dict(range_m=(1.5, 60.0), height_m=(-5.0, 14.0)),
    ),
)
train_cfg = dict(max_iters=900)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
