"""What the source tree must not contain, and what the security policy must name."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("crl_node", "benchmarks", "examples", "executables", "launch", "tests", "tools")
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
POLICY = ROOT / "config" / "security" / "policy.xml"
#: Calls that run what they read: function name -> keyword that makes it harmless, with its value.
FORBIDDEN = {
    "torch.load": None, "eval": None, "exec": None, "compile": None, "os.system": None, "os.popen": None,
    "yaml.load": None, "yaml.unsafe_load": None, "yaml.full_load": None, "np.load": "allow_pickle",
    "numpy.load": "allow_pickle", "np.save": "allow_pickle",
}  # fmt: skip


def python_files() -> list[Path]:
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    return [path for path in files if path.suffix == ".py" or path.parent.name == "executables"] + [ROOT / "setup.py"]


def dangers(source: str) -> list[str]:
    """What `source` does that could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in PICKLERS]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PICKLERS:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keyword = FORBIDDEN.get(name, "")
            values = {k.arg: k.value for k in node.keywords}
            shell = values.get("shell")
            if isinstance(shell, ast.Constant) and shell.value is True:
                found.append(f"{name}(shell=True)")
            if keyword is None:
                found.append(name)
            elif keyword:
                value = values.get(keyword)
                if not (isinstance(value, ast.Constant) and value.value is False):
                    found.append(f"{name} without {keyword}=False")
    return found


def test_nothing_in_the_tree_runs_what_it_reads() -> None:
    files = python_files()
    assert len(files) > 150
    assert {str(path): bad for path in files if (bad := dangers(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "torch.load('x')", "np.load('x')", "yaml.load(text)", "eval(text)",
        "np.load('x', allow_pickle=True)", "subprocess.run('ls', shell=True)",
    ],
)  # fmt: skip
def test_the_reader_of_the_tree_finds_what_it_looks_for(source: str) -> None:
    assert dangers(source)


def allowed(node: str, direction: str) -> set[str]:
    """Topics that the policy lets `node` publish or subscribe to."""
    profile = next(p for p in ElementTree.parse(POLICY).iter("profile") if p.get("node") == node)
    return {str(t.text) for group in profile.iter("topics") if group.get(direction) == "ALLOW" for t in group}


def used(node: str) -> dict[str, set[str]]:
    """Topics that the source of `node` names, by direction."""
    # The controller's topic is the profile's; the policy is that of a joint_trajectory_controller.
    controller = {"arm_controller/joint_trajectory"} if node == "gate" else set()
    topics: dict[str, set[str]] = {"publish": controller, "subscribe": set()}
    # The planner's goals have a file of their own.
    sources = [f"{node}.py", *(["goal_desk.py"] if node == "planner" else [])]
    trees = [ast.parse((ROOT / "crl_node" / "nodes" / name).read_text()) for name in sources]
    for call in (found for tree in trees for found in ast.walk(tree)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or len(call.args) < 2:
            continue
        direction = {
            "create_publisher": "publish", "create_lifecycle_publisher": "publish", "create_subscription": "subscribe",
            "listen": "subscribe",
        }.get(call.func.attr)  # fmt: skip
        topic = call.args[1]
        if direction and isinstance(topic, ast.Constant) and isinstance(topic.value, str):
            topics[direction].add(topic.value)
    return topics


@pytest.mark.parametrize("node", ["sim", "learner", "planner", "gate", "manager", "recorder"])
def test_the_policy_allows_each_node_what_it_does_and_no_other_topic(node: str) -> None:
    common = {"/rosout", "/parameter_events", "/diagnostics", "~/transition_event", "/clock"}
    for direction, topics in used(node).items():
        given = allowed(node, direction)
        assert topics <= given, f"config/security/policy.xml: {node} may not {direction} {topics - given}"
        if node != "recorder":  # whose topics are a parameter
            assert given - common <= topics, f"config/security/policy.xml: {node} need not {direction}"


def test_the_recorder_may_hear_all_that_it_records_by_default() -> None:
    from crl_node.bags.profile import load_record_profile

    topics = {entry.name for entry in load_record_profile("loop").topics}
    assert len(topics) > 10 and topics <= allowed("recorder", "subscribe")


def test_only_the_gate_may_command_the_arm_and_only_the_planner_the_gate() -> None:
    nodes = [str(p.get("node")) for p in ElementTree.parse(POLICY).iter("profile")]
    for topic, owner in (("arm_controller/joint_trajectory", "gate"), ("planner/command", "planner")):
        assert [n for n in nodes if topic in allowed(n, "publish")] == [owner]
    assert [n for n in nodes if "sim/ground_truth" in allowed(n, "subscribe")] == ["recorder"]


def test_the_dds_profile_has_one_transport_and_it_is_shared_memory() -> None:
    text = (ROOT / "config" / "dds" / "shm_only.xml").read_text()
    assert re.findall(r"<type>(\w+)</type>", text) == ["SHM"]
    assert "<useBuiltinTransports>false</useBuiltinTransports>" in text


def test_onnxruntime_keeps_and_sends_no_usage_data(tmp_path: Path) -> None:
    """Where it does, it leaves a device number and a database of events in the user's cache."""
    unset = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI", "GITHUB_ACTIONS", "TF_BUILD")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"HOME": str(tmp_path)}
    code = "import crl_node, onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"
    model = ROOT / "models" / "structure_policy.onnx"
    subprocess.run([sys.executable, "-c", code, str(model)], env=environment, cwd=tmp_path, check=True, timeout=120)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
