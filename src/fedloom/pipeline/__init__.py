"""DECLARATIVE STAGES: one file describes a federation; it is checked whole, then run."""
