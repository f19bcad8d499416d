# SuperFlow as its code was published, with the small student. The 17 class-like ids come from k-means over teacher
# features of the whole log instead of a language-guided segmenter: the same in all cameras and times.
#   superflow prepare superpixels --index work_dirs/prepared --frames train --provider clusters \
#       --option clusters=17
#   superflow prepare features --index work_dirs/prepared --frames train
#   superflow train pretrain/superflow_small.py --work-dir work_dirs/superflow
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/small_pretrain.py"]

model = dict(
    objectives=[dict(type="spatial"), dict(type="temporal"), dict(type="dense_to_sparse")],
    region=dict(scope="clip"),
)
train_dataloader = dict(
    dataset=dict(
        times=dict(border="repeat"),
        clouds=dict(sweeps=2),
        cameras_per_clip=3,
        superpixels="work_dirs/prepared/superpixels/clusters",
    )
)
train_cfg = dict(max_iters=100)
default_hooks = dict(checkpoint=dict(interval=20))  # a run that is killed loses a minute, not all of it
