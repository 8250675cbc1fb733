"""Where the package's data lives: the repository when run from it, `share/crl_node` when installed."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path


@cache
def share() -> Path:
    """Folder that holds `config/`, `launch/`, `models/` and `sim/`.

    A source tree (also an editable install) wins; else `share/crl_node` of the prefix this file was installed
    into (colcon, pip) or of one named in AMENT_PREFIX_PATH.
    """
    here = Path(__file__).resolve()
    if (here.parents[1] / "config" / "parameters").is_dir():
        return here.parents[1]
    prefixes = [*here.parents, *map(Path, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), Path(sys.prefix)]
    for prefix in prefixes:
        candidate = prefix / "share" / "crl_node"
        if (candidate / "config" / "parameters").is_dir():
            return candidate
    raise FileNotFoundError(
        f"crl_node's data (config/, sim/, models/) is neither beside {here.parents[0]} nor in share/crl_node of "
        f"{', '.join(str(p) for p in prefixes[:4])}…; reinstall the package ('make venv', or colcon build)"
    )


def parameters_file(node: str) -> Path:
    """The file that declares the parameters of `node`."""
    return share() / "config" / "parameters" / f"{node}.yaml"


def dds_profile() -> Path:
    """The Fast DDS profile that talks through shared memory only."""
    return share() / "config" / "dds" / "shm_only.xml"
