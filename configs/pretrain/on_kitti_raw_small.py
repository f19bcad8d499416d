# SuperFlow++ with the small student on drives of KITTI's raw data, which has no splits: two cameras that look ahead.
#   superflow prepare kitti_raw --root ROOT --out prepared/kitti_raw
#   superflow prepare features --index prepared/kitti_raw
#   superflow train pretrain/on_kitti_raw_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/kitti_raw"
train_dataloader = dict(dataset=dict(frames=None, times=dict(offsets=(-0.1, 0.0, 0.1))))
