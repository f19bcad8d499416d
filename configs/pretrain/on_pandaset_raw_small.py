# SuperFlow++ with the small student on PandaSet, which has no splits: two LiDARs, six cameras.
#   superflow prepare pandaset_raw --root ROOT --out prepared/pandaset_raw
#   superflow prepare features --index prepared/pandaset_raw
#   superflow train pretrain/on_pandaset_raw_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/pandaset_raw"
train_dataloader = dict(dataset=dict(frames=None))
