"""A commit as something other tools read: one file, a folder with its papers, an ONNX graph, an MLflow version."""

from fedloom.hub.export.model_file import export_model

__all__ = ["export_model"]
