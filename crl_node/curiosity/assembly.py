"""The planner as the node makes it from its parameters: the node and the replay share this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crl_node.arm.profile import RobotProfile
from crl_node.curiosity.planner import Planner, PlannerConfig
from crl_node.paths import share

#: What plans in real time: 64 candidates, two iterations.
DEFAULT_MODEL = "plan_s12_p96_k16_n64_h30_i2.onnx"


def default_model() -> Path:
    """The planning graph that is used where no other is named."""
    return share() / "models" / DEFAULT_MODEL


def shipped_model(name: str) -> Path:
    """The planning graph at the path `name`, or of that name in models/; "": the default. ValueError for none."""
    if not name:
        return default_model()
    for path in (Path(name), share() / "models" / name):
        if path.is_file():
            return path
    there = ", ".join(path.name for path in sorted((share() / "models").glob("plan_*.onnx")))
    raise ValueError(f"there is no plan file '{name}', neither as a path nor in models/ (there: {there})")


def planner_config(parameters: Any, profile: RobotProfile) -> PlannerConfig:
    """What the planner must know of arm, table and camera. ValueError when they do not fit together."""
    for name, count in (("table", 4), ("camera_eye", 3)):
        if len(getattr(parameters, name)) != count:
            raise ValueError(f"parameter '{name}' holds {len(getattr(parameters, name))} numbers, it must hold {count}")
    box, table, margin = profile.workspace, parameters.table, profile.tool_radius
    low = max(box.x[0], table[0] + margin), max(box.y[0], table[2] + margin)
    high = min(box.x[1], table[1] - margin), min(box.y[1], table[3] - margin)
    if low[0] >= high[0] or low[1] >= high[1]:
        raise ValueError(
            f"the workspace of '{profile.name}' (x {list(box.x)}, y {list(box.y)} m) and the table {list(table)} m "
            "have no place in common for the tip"
        )
    return PlannerConfig(
        workspace=(low[0], high[0], low[1], high[1]), table=tuple(table), max_speed=profile.max_tip_speed,
        camera=tuple(parameters.camera_eye), tool_radius=profile.tool_radius,
        tool_height=parameters.arm_height, shadow_half_width=parameters.arm_half_width,
    )  # fmt: skip


def planner_from(parameters: Any, profile: RobotProfile, model: Path, data: bytes | None = None) -> Planner:
    """The planner that `config/parameters/planner.yaml` describes, with the graph in `model`.

    `data`: that file's bytes when they were read already (`quarantine.read_examined`).
    """
    return Planner(
        model, parameters.policy, parameters.seed, planner_config(parameters, profile),
        provider=parameters.provider, require_gpu=parameters.require_gpu, model=data,
    )  # fmt: skip
