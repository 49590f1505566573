"""ENGINES: move tasks to sites and replies back, and know nothing else."""
