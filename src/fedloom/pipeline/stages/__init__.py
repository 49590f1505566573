"""STAGES: both halves of a step, what the hub does and what a site does, in one file each."""
