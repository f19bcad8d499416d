# SuperFlow++ with the small student on Waymo Open: five LiDARs, five cameras.
#   superflow prepare waymo --root ROOT --out prepared/waymo
#   superflow prepare features --index prepared/waymo --frames train
#   superflow train pretrain/on_waymo_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/waymo"
