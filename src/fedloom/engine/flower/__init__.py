"""The Flower engine: fedloom's tasks on flwr's Message API and its Ray simulation.

Rules: flwr and Ray are imported only inside this folder, and only once an engine runs, so that importing it
costs nothing and works without them; whatever either has not published as API stands in `private.py`.
"""

from __future__ import annotations

from fedloom.engine.flower.hub_side import FlowerEngine

__all__ = ["FlowerEngine"]
