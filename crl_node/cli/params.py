"""`crl params`: every parameter of every node."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from crl_node.parameter_spec import ParameterError


def params(
    node: Annotated[str, typer.Argument(help="Only this node's.")] = "",
    write: Annotated[bool, typer.Option("--write", help="Write docs/parameters.md of the source tree.")] = False,
) -> None:
    """Print every node's parameters with type, unit, range and text (markdown)."""
    from crl_node.parameter_docs import documentation_file, nodes_with_parameters, page

    text = page()
    if write:
        path = documentation_file()
        if not path.parent.is_dir():
            raise ParameterError(f"there is no folder {path.parent}: --write is for a source tree")
        path.write_text(text)
        print(f"written: {path}")
        return
    if node:
        if node not in nodes_with_parameters():
            raise ParameterError(f"there is no node '{node}'; nodes are {', '.join(nodes_with_parameters())}")
        text = "## " + next(part for part in text.split("\n## ") if part.startswith(f"{node}\n"))
    sys.stdout.write(text.rstrip("\n") + "\n")
