"""Replay of bags of the real simulator: the same again, no truth, honest differences. ROS runs: tests/end_to_end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from crl_node.alignment import Aligned
from crl_node.arm.trajectory import JointTrajectory
from crl_node.bags import metadata
from crl_node.bags.reader import BagReader
from crl_node.bags.repair import recover_bag
from crl_node.command import Command
from crl_node.data import Belief
from crl_node.environments import asked_in, asked_note
from crl_node.learning import StepResult
from crl_node.parameter_spec import ParameterError
from crl_node.replay.compare import Comparison
from crl_node.replay.run import Outcome, Replay
from crl_node.replay.settings import ReplayError, read_settings
from crl_node.replay.stream import BELIEF, COMMAND, Event, Kind, events, roles
from tests.support.recorded_pushes import parameters, record_pushes

STEPS = 25


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ground truth in it is noise that cannot be decoded: whoever reads it is found out."""
    return record_pushes(
        tmp_path_factory.mktemp("replay") / "bag", seed=3, steps=STEPS, truth=b"\x00\x01\x00\x00!"
    )


def again(path: Path, **options: object) -> Outcome:
    reader = BagReader(path)
    return Replay(reader, read_settings(reader), plan=False, **options).run()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def outcome(bag: Path) -> Outcome:
    return again(bag)


def test_every_frame_is_replayed_under_the_recorded_settings(outcome: Outcome) -> None:
    assert outcome.settings.source == "the bag's metadata" and outcome.settings.seed == 3
    assert (outcome.frames.recorded, outcome.frames.used, outcome.frames.learned) == (STEPS, STEPS, STEPS - 1)
    assert outcome.posterior is not None and outcome.posterior.step >= STEPS - 3
    result = outcome.as_json()
    assert result["posterior_hash"] == outcome.posterior.hash and result["steps"] == outcome.posterior.step
    assert (
        result["beliefs_equal"] is None
        and "which frames the live run used is not known" in result["notes"][0]
    )


def test_the_truth_in_a_bag_is_never_read(bag: Path, outcome: Outcome) -> None:
    reader = BagReader(bag)
    assert reader.topics()["/sim/ground_truth"][1] == STEPS
    assert not any("cannot be decoded" in note for note in outcome.notes)
    list(reader.messages())
    assert any("/sim/ground_truth" in note and "cannot be decoded" in note for note in reader.notes)
    kinds = {event.kind for event in events(BagReader(bag), roles(BagReader(bag)))}
    assert kinds == {Kind.EXECUTED, Kind.JOINTS, Kind.IMAGE}


def test_files_compression_and_recovery_do_not_change_a_bit(tmp_path: Path, outcome: Outcome) -> None:
    """Another compression, split into several files, cut off like a killed recorder's and recovered: the same hash."""
    path = record_pushes(tmp_path / "bag", seed=3, steps=STEPS, compression="zstd", split_seconds=1.0)
    files = metadata.mcap_files(path)
    assert len(files) == 3
    files[-1].write_bytes(files[-1].read_bytes()[:-60])
    (path / "metadata.yaml").unlink()
    recover_bag(path)
    second = again(path)
    assert second.posterior is not None and outcome.posterior is not None
    assert second.posterior.hash == outcome.posterior.hash


def test_another_seed_is_said_and_gives_another_posterior(bag: Path, outcome: Outcome) -> None:
    reader = BagReader(bag)
    settings = read_settings(reader).with_seed(4)
    other = Replay(reader, settings, plan=False).run()
    assert other.posterior is not None and outcome.posterior is not None
    assert other.posterior.hash != outcome.posterior.hash
    assert "the seed is 4 instead of 3" in other.as_json()["notes"]


def test_settings_are_found_in_the_run_s_file_when_the_bag_has_none(bag: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bag"
    copy.mkdir()
    # A bag as another recorder writes it: the messages, and nothing of ours.
    record_pushes(copy, seed=3, steps=3)
    reader = BagReader(copy)
    lost = (copy / "metadata.yaml").read_text().replace(metadata.PARAMETERS, "someone.else")
    (copy / "metadata.yaml").write_text(lost)
    for file in metadata.mcap_files(copy):
        file.write_bytes(
            file.read_bytes().replace(metadata.PARAMETERS.encode(), b"x" * len(metadata.PARAMETERS))
        )
    with pytest.raises(ReplayError, match="does not say with which parameters it was recorded"):
        read_settings(BagReader(copy))
    learner = parameters("four_cubes", 5)["/learner"]
    command = ["python", "-m", "crl_node.nodes", "learner", "--ros-args", "-r", "__node:=learner"]
    for name, value in learner.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    (tmp_path / "run.json").write_text(json.dumps({"commands": {"learner": command}}))
    settings = read_settings(BagReader(copy))
    assert settings.seed == 5 and settings.lockstep and settings.source.endswith("run.json")
    assert settings.node("learner").camera_fov == learner["camera_fov"]
    assert reader.path == copy


def test_a_params_file_wins_and_a_wrong_one_is_refused(bag: Path, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("learner:\n  ros__parameters:\n    posterior_period: 1.0\n")
    assert read_settings(BagReader(bag), file).node("learner").posterior_period == 1.0
    file.write_text("learner:\n  ros__parameters:\n    posterior_perod: 1.0\n")
    with pytest.raises(ParameterError, match="posterior_perod"):
        read_settings(BagReader(bag), file)


def test_plans_that_followed_goals_the_bag_does_not_hold_are_said(bag: Path) -> None:
    def plan(stamp: float, preference: float) -> Event:
        chosen = SimpleNamespace(preference=preference, label="bring slot_1 to the goal", actions=[])
        header = SimpleNamespace(stamp=SimpleNamespace(sec=int(stamp), nanosec=0))
        return Event(Kind.PLAN, stamp, SimpleNamespace(header=header, chosen=chosen))

    reader = BagReader(bag)
    replay = Replay(reader, read_settings(reader), plan=False)
    replay._recorded(plan(1.0, 0.0))
    assert not any("goals" in note for note in replay.outcome.notes)
    replay._recorded(plan(2.0, 0.5))
    replay._recorded(plan(3.0, 0.5))
    said = [note for note in replay.outcome.notes if "goals" in note]
    assert len(said) == 1 and "plans from 2.00 s on followed goals" in said[0] and "planner/goals" in said[0]


def test_a_bag_without_images_cannot_be_replayed(bag: Path, tmp_path: Path) -> None:
    reader = BagReader(bag)
    topics = {**roles(reader), "camera/image_raw": "/another/camera"}
    with pytest.raises(ReplayError, match="holds no message of /another/camera"):
        list(events(reader, topics))


def belief(stamp: float = 1.0) -> Belief:
    one = np.ones(1)
    return Belief(
        stamp, np.zeros(1, np.int64), np.zeros((1, 5)), np.eye(5)[None], np.ones((1, 3)), one, one, one
    )


def test_the_first_difference_is_named_to_the_number() -> None:
    comparison = Comparison()
    comparison.recorded(BELIEF, 1, belief())
    comparison.made(BELIEF, 1, belief())
    assert comparison.equal(BELIEF) is True
    changed = belief(2.0)
    changed.mean[0, 1] = np.nextafter(0.0, 1.0)  # the smallest difference there is
    comparison.made(BELIEF, 2, changed)
    comparison.recorded(BELIEF, 2, belief(2.0))
    assert comparison.equal(BELIEF) is False and comparison.first is not None
    assert (comparison.first.stamp, comparison.first.topic) == (2.0, BELIEF)
    assert comparison.first.what.startswith("mean[0, 1] is 5e-324, recorded 0.0")


def test_a_belief_that_was_recorded_and_not_made_is_a_difference() -> None:
    comparison = Comparison()
    for key in (1, 2):
        comparison.recorded(BELIEF, key, belief(float(key)))
    comparison.made(BELIEF, 1, belief(1.0))
    comparison.note_missing()
    assert comparison.equal(BELIEF) is False and comparison.first is not None
    assert "recorded (2) but not replayed" in comparison.first.what
    assert comparison.equal(COMMAND) is None


def test_a_command_is_compared_down_to_its_trajectory() -> None:
    trajectory = JointTrajectory(("a",), np.array([0.0, 0.1]), np.zeros((2, 1)), np.zeros((2, 1)))
    command = Command(1.0, 1, 1.0, 3, False, np.zeros(2), 0.1, 0.1, trajectory)
    other = replace(trajectory, positions=np.array([[0.0], [1e-17]]))
    comparison = Comparison()
    comparison.made(COMMAND, 1, command)
    comparison.recorded(COMMAND, 1, replace(command, trajectory=other))
    assert comparison.first is not None and "trajectory.positions[1, 0] is 0.0" in comparison.first.what


def test_an_environment_that_was_begun_on_request_begins_at_the_same_frame_again(
    bag: Path, tmp_path: Path, outcome: Outcome
) -> None:
    """The live side is the learner itself: the service is called after frame 11, its notes go into the bag."""
    reader = BagReader(bag)
    live = Replay(reader, read_settings(reader), plan=False)
    step, notes = live.learner.step, []

    def noted(aligned: Aligned) -> StepResult:
        if len(notes) == 12:
            live.learner.begin_environment('wet "table"; begins')
        result = step(aligned)
        notes.append(result.note)
        return result

    live.learner.step = noted  # type: ignore[method-assign]
    wanted = live.run().posterior
    assert [k for k, note in enumerate(notes) if asked_in(note)] == [12]
    path = record_pushes(tmp_path / "bag", seed=3, steps=STEPS, reports=dict(enumerate(notes)))
    found = again(path)
    assert found.learner is not None and found.posterior is not None and wanted is not None
    assert found.learner.model.environments == ["first", 'wet "table"; begins']
    assert found.posterior.hash == wanted.hash
    assert len(found.learner.model.motion.environments.past) == 1
    gone = outcome.learner
    assert gone is not None and gone.model.environments == ["first"]


def test_a_report_that_names_an_environment_twice_or_badly_is_told_and_changes_nothing(tmp_path: Path) -> None:
    reports = {3: asked_note(["a"]), 6: "x; " + asked_note(["a"]), 9: 'begun on request: ["b'}
    found = again(record_pushes(tmp_path / "bag", seed=3, steps=12, reports=reports))
    assert found.learner is not None and found.learner.model.environments == ["first", "a"]
    assert any("cannot be called 'a'" in note for note in found.notes)
    assert any("no environment begins there" in note for note in found.notes)
    assert asked_in("slot_3 is now variable 2") == ()
