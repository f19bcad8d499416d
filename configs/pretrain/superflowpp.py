# SuperFlow++ on nuScenes for GPUs: the knobs that did best with the small student (superflowpp_small.py), with the
# published student and teacher. Not run at this size by us.
#   torchrun --nproc_per_node=8 -m superflow.tools.train pretrain/superflowpp.py --amp
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/nuscenes_pretrain.py"]

model = dict(
    objectives=[  # a place that another clip of the street sees, too, is no negative of itself
        dict(type="spatial", temperature=0.2, max_rows=4096, same_id="ignored"),
        dict(type="temporal", temperature=0.2, max_rows=4096, same_id="ignored"),
        dict(type="cross_temporal", temperature=0.2, max_rows=4096, same_id="ignored"),
        dict(type="dense_to_sparse", kind="cosine", weight=0.25),
    ],
    region=dict(scope="clip"),
    pixels="hit",
    normalize="after",
)
train_dataloader = dict(
    dataset=dict(times=dict(offsets=(-1, 0, 1)), clouds=dict(sweeps=1), region="world_cell", cell_m=0.5)
)
optim_wrapper = dict(optimizer=dict(lr=0.01, eps=1e-6))
train_cfg = dict(_delete_=True, max_epochs=50)  # on any number of GPUs, see superflow.py
