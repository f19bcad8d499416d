"""A family a file: its name is the file's. `registry.families` finds them."""
