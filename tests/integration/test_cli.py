"""The `crl` command: help worth reading, mistakes told in a sentence with exit code 2, runs that leave nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crl_node import shared_memory
from crl_node.paths import share

CRL = [sys.executable, "-c", "from crl_node.cli import main; main()"]


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("ROS_DOMAIN_ID", "FASTRTPS_DEFAULT_PROFILES_FILE")}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


def crl(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CRL, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path), check=False
    )


def test_help_names_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    result = crl(tmp_path, "--help")
    assert result.returncode == 0
    for word in ("sim", "report", "doctor", "world", "Exit codes", "curious robot arm"):
        assert word in result.stdout


def test_help_of_sim_names_every_option(tmp_path: Path) -> None:
    text = crl(tmp_path, "sim", "--help").stdout
    for option in ("--world", "--seconds", "--seed", "--policy", "--rtf", "--lockstep", "--out", "--headless"):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sim", "--world", "atlantis"], "atlantis"),
        (["sim", "--world", "nowhere.yaml"], "nowhere.yaml"),
        (["sim", "--policy", "lazy"], "lazy"),
        (["sim", "--rtf", "2", "--lockstep"], "--rtf and --lockstep exclude each other"),
        (["sim", "--seconds=-1"], "--seconds"),
        (["sim", "--robot", "r2d2"], "r2d2"),
        (["sim", "--params-file", "absent.yaml"], "cannot read the params file absent.yaml"),
        (["world", "check", "atlantis"], "atlantis"),
        (["sim", "--world", "random:x"], "random:SEED"),
        (["world", "new", "--random", "--like", "tabletop"], "--random and --like exclude each other"),
        (["world", "new", "-o", "absent/w.yaml"], "there is no folder absent"),
        (["goal"], "a goal is a thing and a place"),
        (["goal", "red", "0.6"], "a goal is a thing and a place"),
        (["goal", "--clear", "red", "0.6", "0.1"], "--clear takes no place"),
        (["goal", "red", "0.6", "0.1"], "no run is going on in"),
        (["goal", "red", "0.6", "0.1", "--run", "absent"], "does not say which ROS domain"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = crl(tmp_path, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_mistake_in_a_world_file_names_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    lines = (share() / "sim" / "worlds" / "four_cubes.yaml").read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if "name: green_cube" in line)
    lines[number] = "  - {name: green_cube, shape: box, size: [0.06, 0.06, 0.06], colour: [2, 0, 0]}"
    path.write_text("\n".join(lines))
    for arguments in (["world", "check", str(path)], ["sim", "--world", str(path)]):
        result = crl(tmp_path, *arguments)
        assert result.returncode == 2
        assert f"mine.yaml:{number + 1}" in result.stderr and "colour" in result.stderr


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text("{}")
    result = crl(tmp_path, "sim", "--out", "old")
    assert result.returncode == 2 and "already holds a run" in result.stderr
    assert (tmp_path / "old" / "run.json").read_text() == "{}"


def test_a_report_of_no_folder_is_a_sentence(tmp_path: Path) -> None:
    result = crl(tmp_path, "report", "absent")
    assert result.returncode in (1, 2)
    assert "absent" in result.stderr and "Traceback" not in result.stderr


def test_world_check_tells_what_is_in_it(tmp_path: Path) -> None:
    text = crl(tmp_path, "world", "check", "tabletop").stdout
    for word in ("yellow_ball", "SPRING", "LIT_BY", "action -> body.position"):
        assert word in text


def test_a_new_random_world_is_written_once_and_can_be_read(tmp_path: Path) -> None:
    made = crl(tmp_path, "world", "new", "--random", "--seed", "7", "-o", "w.yaml")
    assert made.returncode == 0, made.stderr
    text = (tmp_path / "w.yaml").read_text()
    assert crl(tmp_path, "world", "new", "--random", "--seed", "7").stdout == text
    again = crl(tmp_path, "world", "new", "-o", "w.yaml")
    assert again.returncode == 2 and "is there already" in again.stderr and (tmp_path / "w.yaml").read_text() == text
    assert "body -> " in crl(tmp_path, "world", "check", "w.yaml").stdout


@pytest.mark.ros
def test_doctor_finds_everything_well(tmp_path: Path) -> None:
    result = crl(tmp_path, "doctor")
    assert result.returncode == 0, result.stdout
    assert "a Belief was sent and received" in result.stdout


def node_processes(folder: Path) -> list[int]:
    """Processes whose command line names the run's folder, or whose parent was its crl: found by their log files."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            target = (entry / "fd" / "1").readlink()
        except OSError:
            continue
        if str(target).startswith(str(folder)):
            found.append(int(entry.name))
    return found


def kill_node(folder: Path, name: str) -> None:
    """SIGKILL to the node `name` of the run."""
    found = [
        pid
        for pid in node_processes(folder)
        if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]
    os.kill(found[0], signal.SIGKILL)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`crl sim` without end, once its loop runs."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*CRL, "sim", "--seconds", "0", "--out", str(out), "--headless", "--no-report", "--world", "four_cubes"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=environment(tmp_path),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    manager = out / "logs" / "manager.log"
    while not (manager.exists() and "system is running" in manager.read_text()):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline, manager.read_text() if manager.exists() else "no manager"
        time.sleep(0.1)
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while node_processes(out) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert node_processes(out) == []


def domain_of_run(tmp_path: Path) -> int:
    return int(json.loads((tmp_path / "run" / "run.json").read_text())["ros_domain_id"])


@pytest.mark.ros
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_everything_and_leaves_nothing(
    tmp_path: Path, running: subprocess.Popen[str], number: int, code: int
) -> None:
    domain = domain_of_run(tmp_path)
    used = set().union(*(shared_memory.files_used_by(pid) for pid in node_processes(tmp_path / "run")))
    assert used
    running.send_signal(number)
    output = running.communicate(timeout=90)[0]
    assert running.returncode == code, output
    assert node_processes(tmp_path / "run") == []
    left = {path for path in shared_memory.fastdds_files() if shared_memory.domain_of(path) == domain}
    segments = {path for path in used if shared_memory.domain_of(path) is None and "_port" not in path.name}
    assert left | (segments & shared_memory.fastdds_files()) == set()
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["outcome"] == {130: "interrupted", 143: "terminated"}[code]
    assert set(facts["peak_memory_mb"]) == {"recorder", "learner", "gate", "planner", "sim", "manager"}
    assert all(mb > 10 for mb in facts["peak_memory_mb"].values())
    assert (tmp_path / "run" / "bag" / "metadata.yaml").exists()


@pytest.mark.ros
def test_nothing_outlives_a_killed_crl(tmp_path: Path, running: subprocess.Popen[str]) -> None:
    assert len(node_processes(tmp_path / "run")) == 6
    domain = domain_of_run(tmp_path)
    running.kill()
    deadline = time.monotonic() + 60
    while node_processes(tmp_path / "run"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while {p for p in shared_memory.fastdds_files() if shared_memory.domain_of(p) == domain}:
        assert time.monotonic() < deadline, "shared memory is left"
        time.sleep(0.1)
    assert (tmp_path / "run" / "bag" / "metadata.yaml").exists()


@pytest.mark.ros
def test_a_killed_gate_stops_the_run_with_its_name(tmp_path: Path, running: subprocess.Popen[str]) -> None:
    kill_node(tmp_path / "run", "gate")
    output = running.communicate(timeout=90)[0]
    assert running.returncode == 1
    assert "gate was killed by SIGKILL" in output and "Traceback" not in output


@pytest.mark.ros
def test_killed_nodes_come_back_and_the_run_goes_on(tmp_path: Path, running: subprocess.Popen[str]) -> None:
    names = ("learner", "planner", "recorder")
    for name in names:
        kill_node(tmp_path / "run", name)
    manager = tmp_path / "run" / "logs" / "manager.log"
    deadline = time.monotonic() + 180
    while any(manager.read_text().count(f"{name}: activate done") < 2 for name in names):
        assert running.poll() is None
        assert time.monotonic() < deadline, manager.read_text()
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=90)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {name: facts["restarts"][name] for name in names} == dict.fromkeys(names, 1)
