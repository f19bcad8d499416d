"""Ways of answering questions about scenes that nobody trained on: plan, data, arms, and `run.py`."""
