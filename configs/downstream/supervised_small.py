# The small student from scratch on labels: what pretraining is measured against.
#   superflow train downstream/supervised_small.py --work-dir work_dirs/supervised
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_segment.py"]

train_cfg = dict(max_iters=300)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
