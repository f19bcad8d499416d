# AdamW and one cycle over the whole run, stepped every iteration (not every epoch): the learning rate rises to `lr`
# over the first `pct_start` of the run and falls by a cosine to almost nothing. Groups with lr_mult keep their ratio at
# every iteration. How long a run is, train_cfg says: max_iters, or max_epochs of the data whatever the number of GPUs.

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.005, weight_decay=0.01),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = dict(type="OneCycleLR", pct_start=0.2)
train_cfg = dict(max_iters=1000)
