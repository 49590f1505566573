"""METRICS AND RECORDS: what a model is worth, and what happened while it was made."""
