# SuperFlow++ as its figure shows it, on nuScenes for GPUs: one id a class from a segmenter that was tuned on text, the
# same in all cameras and times, and a term across sensor and time. Give it the class maps of any segmenter:
#   superflow prepare superpixels --index work_dirs/prepared --provider masks \
#       --option source=CLASS_PNGS --option shared_ids=true
#   torchrun --nproc_per_node=8 -m superflow.tools.train pretrain/superflowpp_masks.py --amp
# Not run at this size by us. superflowpp.py needs no segmenter.
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/nuscenes_pretrain.py"]

model = dict(
    objectives=[  # a class in other clips is no negative of itself: of 32 clips, 31 would be
        dict(type="spatial", same_id="ignored"),
        dict(type="temporal", same_id="ignored"),
        dict(type="cross_temporal", same_id="ignored"),
        dict(type="dense_to_sparse", kind="cosine"),  # as the paper writes it
    ],
    region=dict(scope="clip"),
)
train_dataloader = dict(
    dataset=dict(
        times=dict(offsets=(-1, 0, 1)),
        clouds=dict(sweeps=2),
        superpixels="work_dirs/prepared/superpixels/masks",
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.01, eps=1e-6))
train_cfg = dict(_delete_=True, max_epochs=50)  # on any number of GPUs, see superflow.py
