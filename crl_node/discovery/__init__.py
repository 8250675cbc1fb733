"""Causal discovery on plain time series: which variable drives the change of which, and by which law."""
