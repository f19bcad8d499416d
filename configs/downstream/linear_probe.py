# Linear probe of a frozen MinkUNet-34 on nuScenes-lidarseg, batch-norm statistics frozen too:
#   superflow train downstream/linear_probe.py --cfg-options model.pretrained=BACKBONE.safetensors
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/nuscenes_segment.py"]

model = dict(freeze=True)
optim_wrapper = dict(optimizer=dict(lr=0.001))
train_cfg = dict(_delete_=True, max_epochs=20, val_interval_epochs=2)  # published: 100 epochs
val_cfg = dict()
default_hooks = dict(checkpoint=dict(save_best="miou"))
