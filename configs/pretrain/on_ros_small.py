# SuperFlow++ with the small student on ROS bags: all of their scans.
#   superflow prepare ros --bag drive.mcap --out prepared/ros
#   superflow prepare features --index prepared/ros
#   superflow train pretrain/on_ros_small.py
_base_ = ["superflowpp_small.py"]

data_root = "prepared/ros"
train_dataloader = dict(dataset=dict(frames=None))
