"""Exit codes of the `crl` command."""

FAILURE, USAGE_ERROR, INTERRUPTED, TERMINATED = 1, 2, 130, 143
