# ST-SLidR with the small student: SLidR whose negatives count less where the teacher finds them alike, and whose rows
# count less where much looks like them.
#   superflow train pretrain/st_slidr_small.py --work-dir work_dirs/st_slidr
_base_ = ["slidr_small.py"]

model = dict(objectives=[dict(type="tolerant_spatial")])
