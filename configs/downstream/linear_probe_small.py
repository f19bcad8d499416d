# Linear probe of a frozen small student, batch-norm statistics frozen too:
#   superflow train downstream/linear_probe_small.py --cfg-options model.pretrained=work_dirs/superflowpp
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_segment.py"]

model = dict(freeze=True)
train_cfg = dict(max_iters=500, val_interval=125)
# a run that is killed loses a minute, not all of it
default_hooks = dict(checkpoint=dict(interval=20, save_best="miou"))
