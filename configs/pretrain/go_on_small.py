# Going on from `street-tiny` on the images of a log of one's own: SuperFlow++ there, and beside it, in every other
# clip, the classes of made streets, which taught the backbone and which it would forget (docs/evidence.md, "A log of
# one's own"). At a fifth of the rate of new weights.
#   superflow prepare nuscenes --root ROOT --out work_dirs/prepared
#   superflow prepare features --index work_dirs/prepared --frames train
#   superflow make-drive --out made --scenes 200 --seed 100 --lidar-hz 2 --no-images --vary sensor place appearance
#   superflow prepare nuscenes --root made --out work_dirs/prepared_made --label-set fine
#   superflow train pretrain/go_on_small.py --work-dir work_dirs/go_on
# and the mean of both's weights, which keeps what going on gave and gets back what it took:
#   superflow export work_dirs/go_on --average-with street-tiny --out backbone.safetensors
_base_ = ["superflowpp_labels_small.py"]

data_root = "work_dirs/prepared"
limits = dict(range_m=(1.5, 60.0), height_m=(-5.0, 14.0))

model = dict(pretrained="street-tiny")
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        _delete_=True,
        type="MixtureDataset",
        parts=[
            dict(
                index=data_root,
                frames="train",
                times=dict(offsets=(-0.5, 0.0, 0.5), unit="seconds"),
                clouds=dict(max_points=8000, sweep_points=2000, keep_frames=120, sweeps=1),
                views=dict(features=f"{data_root}/features/efficientnet_lite0", size=(112, 208)),
                cameras_per_clip=None,
                limits=limits,
                region="world_cell",
                cell_m=0.5,
            ),
            dict(
                index="work_dirs/prepared_made",
                frames="train",
                images=False,
                times=dict(offsets=(0.0,)),
                clouds=dict(max_points=30_000, labels=True),
                limits=limits,
                region="world_cell",
                cell_m=0.5,
                # a made street's sensor is not the one in use
                augmentation=dict(
                    scale=(0.9, 1.1),
                    height_m=(-0.3, 0.5),
                    jitter_m=0.05,
                    intensity_gain=(0.5, 1.5),
                    intensity_power=(0.5, 2.0),
                    drop_intensity=0.1,
                ),
            ),
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=450)
