"""Backbones that are made once and measured on many logs.

plan.py, plan_file.py   what is compared, and the YAML that says it
logs.py, backbones.py   made once: logs that are read or made, and backbones
measures.py             what is measured of each backbone, and recipe_search.py which recipe of fine-tuning it gets
run.py                  all of it, a row a figure
"""
