"""The main job in one run: choose frames, prepare, pretrain, probe, report."""
