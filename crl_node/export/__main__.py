"""`python -m crl_node.export`: the same as `crl export`."""

from __future__ import annotations

import typer

from crl_node.cli.export import export

if __name__ == "__main__":
    typer.run(export)
