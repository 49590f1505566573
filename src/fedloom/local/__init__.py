"""A WHOLE FEDERATION ON THIS MACHINE: hub and sites wired together for demos, trials and CI."""
