"""The page of figures: `page.py` writes it from tables of rows, the other files its tables and pictures."""
