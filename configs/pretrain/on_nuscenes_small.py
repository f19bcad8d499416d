# SuperFlow++ with the small student on nuScenes: six cameras, key frames at 2 Hz.
#   superflow prepare nuscenes --root ROOT --out prepared/nuscenes
#   superflow prepare features --index prepared/nuscenes --frames train
#   superflow train pretrain/on_nuscenes_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/nuscenes"
