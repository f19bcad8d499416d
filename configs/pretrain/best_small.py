# The recipe of `street-tiny`, chosen on training places (docs/evidence.md): SuperFlow++ on made streets whose
# sensor, place and appearance are drawn anew for each scene; then, here, the same scenes' labels, which cost nothing.
#   superflow make-drive --out made --scenes 120 --val-scenes 10 --seed 300 --lidar-hz 10 --vary sensor place appearance
#   superflow prepare nuscenes --root made --out work_dirs/prepared --label-set fine
#   superflow prepare features --index work_dirs/prepared --frames train
#   superflow train pretrain/superflowpp_small.py --work-dir work_dirs/images --cfg-options train_cfg.max_iters=2000
#   superflow train pretrain/best_small.py --work-dir work_dirs/best
#   superflow export work_dirs/best --out backbone.safetensors
_base_ = ["../downstream/supervised_small.py"]

model = dict(pretrained="work_dirs/images")
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
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
    ),
)
train_cfg = dict(max_iters=3000)
