"""Backbones that are there already, on every prepared set; `stand_ins/` beside this folder makes such sets."""
