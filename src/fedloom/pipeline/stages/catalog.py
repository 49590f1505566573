"""All stages by name, in the order a pipeline file lists them."""

from __future__ import annotations

from collections.abc import Mapping

from fedloom.pipeline.stages.contract import ContractCheck
from fedloom.pipeline.stages.evaluate import Evaluate
from fedloom.pipeline.stages.fit import FederatedFit
from fedloom.pipeline.stages.gate import Gate
from fedloom.pipeline.stages.register import Register
from fedloom.pipeline.stages.stage import SiteHalf, Stage
from fedloom.pipeline.stages.train import Train

_ALL: tuple[Stage, ...] = (ContractCheck(), FederatedFit(), Train(), Evaluate(), Gate(), Register())
STAGES: Mapping[str, Stage] = {stage.name: stage for stage in _ALL}
ANSWERS: Mapping[str, SiteHalf] = {verb: half for stage in _ALL for verb, half in stage.answers().items()}
"""The site halves, by the verb of the task they answer."""
