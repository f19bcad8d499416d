# Fine-tune a pretrained small student; the head learns ten times faster, at every step of the cycle:
#   superflow train downstream/finetune_small.py --cfg-options model.pretrained=work_dirs/superflowpp
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_segment.py"]

optim_wrapper = dict(optimizer=dict(lr=0.001), paramwise_cfg=dict(custom_keys={"head": dict(lr_mult=10.0)}))
train_cfg = dict(max_iters=300, val_interval=75)
# a run that is killed loses a minute, not all of it
default_hooks = dict(checkpoint=dict(interval=20, save_best="miou"))
