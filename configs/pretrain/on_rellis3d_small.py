# SuperFlow++ with the small student on RELLIS-3D: one camera.
#   superflow prepare rellis3d --root ROOT --out prepared/rellis3d
#   superflow prepare features --index prepared/rellis3d --frames train
#   superflow train pretrain/on_rellis3d_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/rellis3d"
