# The small student from scratch on labels: what pretraining is measured against.
#   superflow train downstream/supervised_small.py --work-dir work_dirs/supervised
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_segment.py"]

# No val_interval: it is an arm of the benchmark, where its training time stands beside that of the other arms, so it is
# evaluated once, at the end. For a best figure too: train_cfg.val_interval=60 default_hooks.checkpoint.save_best=miou
train_cfg = dict(max_iters=300)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
