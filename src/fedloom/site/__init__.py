"""EDGE AGENT: what runs where the data is. Nothing leaves but through `outbox.py`."""
