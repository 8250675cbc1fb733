"""crl_node: a curious robot arm that learns a causal world model online."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crl_node.discovery.discover import discover as discover

__version__ = "0.1.0"

# ONNX Runtime's wheels (from 1.29) send usage data to its makers unless this is set before they are imported, and keep
# a database and threads for it. Nothing leaves this machine; whoever wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """`crl_node.discover`, loaded when it is first asked for: nodes and `crl --help` do without."""
    if name == "discover":
        from crl_node.discovery.discover import discover

        return discover
    raise AttributeError(f"module 'crl_node' has no attribute '{name}'")
