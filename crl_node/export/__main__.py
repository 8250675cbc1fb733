"""`python -m crl_node.export`: make the plan file and its card from the torch reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from crl_node.export.onnx_model import BUILDS
from crl_node.export.spec import PlanShape


def main() -> None:
    """Parse, export, say what was written."""
    default = PlanShape()
    parser = argparse.ArgumentParser(prog="python -m crl_node.export", description=__doc__)
    parser.add_argument("--folder", default="models", help="where the file and its card go (models)")
    for name in ("candidates", "horizon", "iterations", "elites"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    parser.add_argument("--build", choices=BUILDS, default="scan")
    options = parser.parse_args()
    shape = PlanShape(
        candidates=options.candidates, horizon=options.horizon,
        iterations=options.iterations, elites=options.elites,
    )  # fmt: skip
    from crl_node.export.build import export  # torch takes seconds to import: --help should not wait for it

    info = export(shape, Path(options.folder), options.build)
    print(f"{info.path}: {info.path.stat().st_size} bytes, opset {info.opset}, sha256 {info.hash[:12]}…")


if __name__ == "__main__":
    main()
