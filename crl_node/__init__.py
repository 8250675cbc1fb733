"""crl_node: a curious robot arm that learns a causal world model online."""

__version__ = "0.1.0"
