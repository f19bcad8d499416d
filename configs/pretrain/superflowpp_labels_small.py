# SuperFlow++ with the small student, and beside its image teacher the classes of the points where the log has them: a
# made street has them for nothing. Both at once, where pretrain/best_small.py has one after the other.
#   superflow make-drive --out made
#   superflow prepare nuscenes --root made --out work_dirs/prepared --label-set fine
#   superflow prepare features --index work_dirs/prepared --frames train
#   superflow train pretrain/superflowpp_labels_small.py --work-dir work_dirs/superflowpp_labels
_base_ = ["superflowpp_small.py"]

model = dict(objectives=[*_base_.model.objectives, dict(type="segmentation")])
train_dataloader = dict(dataset=dict(clouds=dict(labels=True)))
