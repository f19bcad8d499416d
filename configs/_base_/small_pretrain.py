# A student for one CPU core and cached teacher features; another folder of prepared data is --data-root FOLDER.
#   superflow prepare nuscenes --root ROOT --out work_dirs/prepared
#   superflow prepare features --index work_dirs/prepared --frames train

data_root = "work_dirs/prepared"

model = dict(
    type="Pretrainer",
    student=dict(
        grid=dict(type="cubic", size_m=0.25),
        backbone=dict(depth="tiny"),
        # no x and y: features should not depend on where in the scene a thing stands
        inputs=("intensity", "height", "range", "one"),
        reduce="mean",
    ),
    channels=64,
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(
        type="PretrainDataset",
        index=data_root,
        frames="train",
        times=dict(offsets=(-0.5, 0.0, 0.5), unit="seconds"),  # whatever the rate of the log's key frames
        clouds=dict(max_points=8000, sweep_points=3000, keep_frames=120),
        views=dict(
            features=f"{data_root}/features/efficientnet_lite0",
            size=(112, 208),  # twice the grid of the features
        ),
        cameras_per_clip=None,
        limits=dict(range_m=(1.5, 60.0), height_m=(-5.0, 14.0)),
    ),
)
