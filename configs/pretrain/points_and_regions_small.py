# SuperFlow++ and per-point regression together, with the small student.
#   superflow train pretrain/points_and_regions_small.py --work-dir work_dirs/points_and_regions
_base_ = ["superflowpp_small.py"]

model = dict(
    objectives=[
        dict(type="spatial", temperature=0.2, max_rows=1024, same_id="ignored"),
        dict(type="temporal", temperature=0.2, max_rows=1024, same_id="ignored"),
        dict(type="cross_temporal", temperature=0.2, max_rows=1024, same_id="ignored"),
        dict(type="dense_to_sparse", kind="cosine", weight=0.25),
        dict(type="point_regression"),
    ]
)
