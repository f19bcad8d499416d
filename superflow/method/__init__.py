"""SuperFlow++: from a batch to its loss. `pretrainer.py` is the algorithm."""
