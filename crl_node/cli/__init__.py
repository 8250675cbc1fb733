"""The `crl` command."""

from __future__ import annotations

import sys

from crl_node.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point. Mistakes in the user's input end in a sentence, not in a traceback."""
    from crl_node.cli.app import user_errors
    from crl_node.cli.exits import USAGE_ERROR

    try:
        app(prog_name="crl")
    except user_errors() as error:
        print(f"crl: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
