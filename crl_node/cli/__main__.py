"""`python -m crl_node.cli`: the `crl` command where its script is not on the PATH."""

from crl_node.cli import main

main()
