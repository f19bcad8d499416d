"""What things cost on this machine: each part beside its rival, in turn, and beside what the machine can do."""
