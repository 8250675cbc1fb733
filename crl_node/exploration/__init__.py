"""Exploration measured: one episode of the closed loop against the truth, many episodes, curves and differences.

Evaluation only: nothing that learns or plans imports this.
"""
