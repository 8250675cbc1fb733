"""The report of a run: numbers for machines, pictures and sentences for people.

`build(run_dir)` evaluates the run's bag and writes report.json, report.html, graph.png, animation.gif and, when
they are missing, model.onnx with its card. A partial run gives a partial report that says what is missing.
"""

from crl_node.report.build import build
from crl_node.report.terminal import summary

__all__ = ["build", "summary"]
