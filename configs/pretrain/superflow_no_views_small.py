# SuperFlow without view consistency: superflow_small.py whose ids are the same over time, but not in two cameras.
#   superflow train pretrain/superflow_no_views_small.py --work-dir work_dirs/superflow_no_views
_base_ = ["superflow_small.py"]

model = dict(region=dict(scope="camera"))
