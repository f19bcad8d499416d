# SuperFlow as its code was published, on nuScenes: MinkUNet-34, DINOv2 ViT-S, one id a class from any semantic
# segmenter, the same in all cameras and times.
#   superflow prepare superpixels --index work_dirs/prepared --provider masks \
#       --option source=CLASS_PNGS --option shared_ids=true
#   torchrun --nproc_per_node=8 -m superflow.tools.train pretrain/superflow.py
_base_ = ["../_base_/runtime.py", "../_base_/onecycle.py", "../_base_/nuscenes_pretrain.py"]

model = dict(
    objectives=[  # negatives come from the GPU's own samples
        dict(type="spatial", gather=False),
        dict(type="temporal", gather=False),
        dict(type="dense_to_sparse", gather=False),
    ],
    region=dict(scope="clip"),
)
train_dataloader = dict(
    dataset=dict(
        times=dict(offsets=(-1, 0, 1), border="repeat"),
        clouds=dict(sweeps=2, occlusion=False),
        views=dict(antialias=False, half=False),
        superpixels="work_dirs/prepared/superpixels/masks",
        augmentation=dict(rotation_rad=(0.0, 3.141592653589793)),
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.01, eps=1e-6), clip_grad=None)
param_scheduler = dict(final_div_factor=100.0)  # from 4e-4 up to 0.01 and down to 4e-6
# As the paper has it; the published code runs 100. 600 scenes hold about 24,100 key frames, so that this is 37,700
# iterations on 8 GPUs and 302,000 on one.
train_cfg = dict(_delete_=True, max_epochs=50)
