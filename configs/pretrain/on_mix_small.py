# SuperFlow++ with the small student on clips of three sets, drawn by their weights: other sensors, numbers of cameras,
# intensities. Another log is one more entry. Each set is prepared first (superflow prepare NAME --root ROOT --out
# prepared/NAME); then
#   superflow prepare features --index prepared/nuscenes --frames train
#   superflow prepare features --index prepared/semantickitti --frames train \
#       --reduction-of prepared/nuscenes/features/efficientnet_lite0
#   superflow prepare features --index prepared/waymo --frames train \
#       --reduction-of prepared/nuscenes/features/efficientnet_lite0
#   superflow train pretrain/on_mix_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared"
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="MixtureDataset",
        parts=[
            dict(
                index=f"prepared/{name}",
                frames="train",
                times=dict(offsets=(-step_s, 0.0, step_s), unit="seconds"),
                clouds=dict(max_points=8000, sweep_points=2000, keep_frames=120, sweeps=1),
                views=dict(features=f"prepared/{name}/features/efficientnet_lite0", size=(112, 208)),
                limits=dict(range_m=(1.5, 60.0), height_m=(-5.0, 14.0)),
                region="world_cell",
                cell_m=0.5,
                weight=weight,
            )
            for name, step_s, weight in [
                ("nuscenes", 0.5, 2.0),
                ("semantickitti", 0.1, 1.0),
                ("waymo", 0.5, 1.0),
            ]
        ],
    )
)
