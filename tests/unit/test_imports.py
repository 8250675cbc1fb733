"""Who may import what: ROS stays in nodes/, learning never sees the truth, the gate stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import crl_node

ROOT = Path(crl_node.__file__).parent
ROS = (
    "rclpy", "crl_interfaces", "builtin_interfaces", "std_msgs", "std_srvs", "sensor_msgs", "geometry_msgs",
    "trajectory_msgs", "diagnostic_msgs", "lifecycle_msgs", "rosgraph_msgs", "rcl_interfaces",
)  # fmt: skip
#: What learns and plans. None of it may know the simulator or hear its truth.
LEARNING = (
    "nodes/learner.py", "nodes/planner.py", "world_model.py", "alignment.py", "perception", "mechanisms", "structure",
    "curiosity",
)  # fmt: skip


def sources(*names: str) -> list[Path]:
    found: list[Path] = []
    for name in names:
        path = ROOT / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path] * path.exists()
    return found


def imported(path: Path) -> set[str]:
    """Full names of every module `path` imports, functions' local imports too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def loaded_by(module: str) -> set[str]:
    """Top-level modules that are in memory after `import module` in a fresh process."""
    code = f"import sys, {module}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def modules_outside_nodes() -> list[str]:
    paths = [path for path in sources(".") if "nodes" not in path.relative_to(ROOT).parts]
    names = [".".join(("crl_node", *path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    return sorted(name.removesuffix(".__init__") for name in names if not name.endswith("__main__"))


def test_no_module_outside_nodes_loads_ros() -> None:
    """One process imports them all: whatever any of them pulls in is in memory then."""
    everything = ", ".join(modules_outside_nodes())
    assert "crl_node.cli" in everything and "crl_node.perception" in everything
    assert not loaded_by(everything) & set(ROS)


def test_outside_nodes_ros_is_imported_only_where_a_node_is_started() -> None:
    # they start a listener, or ask a node, inside a function
    names = ("session.py", "soak.py", "robot_checking.py", "latency.py", "cli/goal.py")
    allowed = {ROOT / name for name in names}
    for path in sources("."):
        if "nodes" in path.relative_to(ROOT).parts or path in allowed:
            continue
        names = imported(path)
        assert not any(n.split(".")[0] in ROS for n in names), f"{path} imports ROS"
        assert not any(n.startswith("crl_node.nodes") for n in names), f"{path} imports a node"


def test_learning_never_mentions_the_simulator_or_its_truth() -> None:
    paths = sources(*LEARNING)
    assert len(paths) > 10
    for path in paths:
        for name in imported(path):
            assert not name.startswith(("crl_node.simulator", "crl_node.evaluation")), f"{path} imports {name}"
        text = path.read_text()
        for word in ("ground_truth", "GroundTruth", "ObjectTruth"):
            assert word not in text, f"{path} mentions {word}"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("crl_node.nodes.gate", {"torch", "onnxruntime", "onnx", "pybullet"}),
        ("crl_node.nodes.planner", {"torch", "pybullet"}),
        ("crl_node.nodes.learner", {"pybullet", "onnxruntime"}),
        ("crl_node.nodes.recorder", {"torch", "onnxruntime", "pybullet"}),
        ("crl_node.nodes.manager", {"torch", "onnxruntime", "pybullet", "scipy"}),
        ("crl_node.cli", {"torch", "onnxruntime", "pybullet", "rclpy", "matplotlib"}),
    ],
)
def test_a_node_loads_only_what_it_needs(module: str, forbidden: set[str]) -> None:
    assert not loaded_by(module) & forbidden


def test_files_stay_short() -> None:
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in sources(".")}
    assert {name: lines for name, lines in long.items() if lines > 440} == {}


def test_no_pickle_anywhere() -> None:
    for path in sources("."):
        names = imported(path)
        assert not names & {"pickle", "dill", "cloudpickle", "joblib"}, f"{path} imports a pickler"
        assert "torch.load(" not in path.read_text(), f"{path} calls torch.load"
        assert "allow_pickle=True" not in path.read_text(), f"{path} lets numpy unpickle"
