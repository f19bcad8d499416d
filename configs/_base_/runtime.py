# How a run logs, saves and watches itself. Every number counts iterations.

default_scope = "superflow"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, seconds=30.0),  # a line at least every 30 seconds
    param_scheduler=dict(type="ParamSchedulerHook"),
    # last_checkpoint names the newest; --resume continues it. save_best="miou" also keeps the best one. For large
    # models, whose files take a second to write; the small configs save more often
    checkpoint=dict(type="CheckpointHook", interval=500, max_keep_ckpts=1),
    # effective rank of the features, share of time spent waiting for data; stops on nan
    health=dict(type="HealthHook", interval=50),
    # stops a run none of whose first batches holds a pair, or a labelled point
    first_batches=dict(type="FirstBatchesHook", batches=20),
    result=dict(type="ResultHook"),  # result.json
)
# an average of the weights, used for evaluation and kept as the checkpoint's weights:
# custom_hooks = [dict(type="EMAHook", momentum=0.001)]
log_processor = dict(type="LogProcessor", by_epoch=False, window_size=50)
visualizer = dict(
    type="Visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)

# deterministic: on CUDA runs need it to repeat bit by bit, and are slower; on the CPU they repeat anyway.
randomness = dict(seed=0, deterministic=False)
# threads: of torch in the training process, None for the machine's default. Loader workers have one each.
env_cfg = dict(threads=None, cudnn_benchmark=False)
launcher = "none"  # under torchrun and srun: "pytorch" and "slurm", unless --launcher none says otherwise
load_from = None  # a checkpoint to take weights from
resume = False
