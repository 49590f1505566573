"""All data checks by name, in the order they run."""

from __future__ import annotations

from collections.abc import Mapping

from fedloom.pipeline.checks.cells import cells
from fedloom.pipeline.checks.check import DataCheck
from fedloom.pipeline.checks.labels import labels
from fedloom.pipeline.checks.presence import presence

CHECKS: Mapping[str, DataCheck] = {"presence": presence, "cells": cells, "labels": labels}
