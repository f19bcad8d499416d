# After DOS, with the small student: soft maps to prototypes, balanced by Zipf's law, of the points that a camera sees.
# The teacher is the image's, not a moving average of the student.
#   superflow train pretrain/after_dos_small.py --work-dir work_dirs/after_dos
_base_ = ["regression_small.py"]

model = dict(objectives=[dict(type="prototypes")])
