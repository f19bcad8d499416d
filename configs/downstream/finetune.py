# Fine-tune MinkUNet-34 at k % of nuScenes-lidarseg; train_dataloader.dataset.tokens is the list of labelled frames. The
# published rule takes every (100/k)-th scene of the split:
#   superflow prepare tokens --index work_dirs/prepared --frames train --percent 1 --out LIST.txt
#   superflow train downstream/finetune.py --cfg-options model.pretrained=BACKBONE.safetensors \
#       train_dataloader.dataset.tokens=LIST.txt train_cfg.max_epochs=100 train_cfg.val_interval_epochs=10
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/nuscenes_segment.py"]

optim_wrapper = dict(optimizer=dict(lr=0.001), paramwise_cfg=dict(custom_keys={"head": dict(lr_mult=10.0)}))
train_cfg = dict(_delete_=True, max_epochs=20, val_interval_epochs=2)  # published: 100 epochs
val_cfg = dict()
default_hooks = dict(checkpoint=dict(save_best="miou"))
