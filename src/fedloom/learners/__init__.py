"""LEARNERS, pure: what a site trains. One file a learner, named in `catalog.py`."""
