# SuperFlow++ with the small student on Argoverse 2: two LiDARs, seven ring cameras.
#   superflow prepare argoverse2 --root ROOT --out prepared/argoverse2
#   superflow prepare features --index prepared/argoverse2 --frames train
#   superflow train pretrain/on_argoverse2_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/argoverse2"
