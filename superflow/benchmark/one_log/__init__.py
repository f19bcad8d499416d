"""Ways of pretraining on one log, by the same probe: `plan.py` says which, `arms.py` runs them, then the table."""
