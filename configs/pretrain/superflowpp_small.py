# SuperFlow++ with the small student and the knobs that did best on held-out training frames: regions are 0.5 m cells
# of the world, so that one region is the same in all cameras and at all times without a segmenter; a warmer
# temperature, since neighbouring cells are often alike; a light dense-to-sparse term, since a dense cloud costs a pass.
#   superflow train pretrain/superflowpp_small.py --work-dir work_dirs/superflowpp
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_pretrain.py"]

model = dict(
    objectives=[  # same_id: in larger batches, a place that another clip sees, too, is no negative of itself
        dict(type="spatial", temperature=0.2, max_rows=1024, same_id="ignored"),
        dict(type="temporal", temperature=0.2, max_rows=1024, same_id="ignored"),
        dict(type="cross_temporal", temperature=0.2, max_rows=1024, same_id="ignored"),
        dict(type="dense_to_sparse", kind="cosine", weight=0.25),
    ],
    region=dict(scope="clip"),
    pixels="hit",
    normalize="after",
)
train_dataloader = dict(
    batch_size=1,
    dataset=dict(clouds=dict(sweeps=1, sweep_points=2000), region="world_cell", cell_m=0.5),
)
train_cfg = dict(max_iters=220)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
