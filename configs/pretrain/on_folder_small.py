# SuperFlow++ with the small student on a folder of your own files: all of its scans.
#   superflow prepare folder --root ROOT --out prepared/folder
#   superflow prepare features --index prepared/folder
#   superflow train pretrain/on_folder_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/folder"
train_dataloader = dict(dataset=dict(frames=None))
