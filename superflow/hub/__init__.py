"""Backbones on disk: checkpoints, exported files with their cards, and `load`."""
