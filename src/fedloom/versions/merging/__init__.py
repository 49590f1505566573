"""MERGING, pure: contributions become new tensors. One file a family of strategies, named in `catalog.py`."""
