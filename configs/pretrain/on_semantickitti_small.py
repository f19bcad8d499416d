# SuperFlow++ with the small student on SemanticKITTI: two cameras that look ahead.
#   superflow prepare semantickitti --root ROOT --out prepared/semantickitti
#   superflow prepare features --index prepared/semantickitti --frames train
#   superflow train pretrain/on_semantickitti_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/semantickitti"
train_dataloader = dict(dataset=dict(times=dict(offsets=(-0.1, 0.0, 0.1))))
