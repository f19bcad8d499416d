# The published student and teacher on nuScenes, for GPUs: images are read and seen by DINOv2 in every step.
#   superflow prepare nuscenes --root ROOT --out work_dirs/prepared --version v1.0-trainval

data_root = "work_dirs/prepared"

model = dict(
    type="Pretrainer",
    student=dict(
        grid=dict(type="cylinder", rho_m=0.1, phi_deg=1.0, z_m=0.1),
        backbone=dict(depth=34, momentum=0.05),
        inputs="published",
        reduce="first",
    ),
    teacher=dict(name="vit_small_patch14_dinov2"),
    channels=64,
)
train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    dataset=dict(
        type="PretrainDataset",
        index=data_root,
        frames="slidr_parametrizing",  # 600 of the 700 training scenes
        cameras_per_clip=3,
        views=dict(size=(224, 448), flip=0.5),
        raw_intensity=True,
        # how far the sensor of nuScenes measures (HDL-32E: 100 m, from 31 degrees below to 11 above the horizon), with
        # room for slopes. The published code crops nothing; the 50 m of Cylinder3D's grid would cost far pairs
        limits=dict(range_m=(0.0, 100.0), height_m=(-30.0, 30.0)),
    ),
)
# learning rates are for 32 clips at a time, 8 GPUs x 4; with other batches they are scaled in proportion, and the log
# says to what before the first step
auto_scale_lr = dict(enable=True, base_batch_size=32)
