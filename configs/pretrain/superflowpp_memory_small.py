# SuperFlow++ with a longer memory: poses carry its regions over two seconds to either side instead of half a one.
#   superflow train pretrain/superflowpp_memory_small.py --work-dir work_dirs/superflowpp_memory
_base_ = ["superflowpp_small.py"]

train_dataloader = dict(dataset=dict(times=dict(offsets=(-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0))))
