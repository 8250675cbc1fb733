"""The learner without ROS: frames in, model out, checkpoints of model and encoder together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crl_node.alignment import Aligned, JointSample
from crl_node.arm.profile import load_profile
from crl_node.checkpoint import FORMAT, CheckpointError, read_arrays, write_arrays
from crl_node.data import Frame
from crl_node.learning import Learner
from crl_node.perception.validate import FrameError
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import load_world
from crl_node.world_model import ModelConfig

WALL = (0.38, 0.82, -0.30, 0.30)


@pytest.fixture(scope="module")
def frames() -> list[Aligned]:
    """Fourteen frames of four cubes and an arm at rest."""
    profile = load_profile("iiwa_sim")
    out = []
    with Simulator(load_world("four_cubes"), profile, 0) as simulator:
        for k in range(14):
            names, q, dq, _ = simulator.joint_state()
            joints = JointSample(0.1 * k, dict(zip(names, q, strict=True)), dict(zip(names, dq, strict=True)))
            frame = Frame(0.1 * k, simulator.render(), joints.positions)
            out.append(Aligned(frame, joints, np.zeros(2) if k else None))
            simulator.advance(0.1)
    return out


def learner(**config: object) -> Learner:
    world = load_world("four_cubes")
    settings = ModelConfig(**{"wall": WALL, **config})  # type: ignore[arg-type]
    return Learner(load_profile("iiwa_sim"), world.camera.camera(), settings, seed=0)


def test_frames_become_beliefs_and_the_things_variables(frames: list[Aligned]) -> None:
    one = learner()
    for aligned in frames:
        result = one.step(aligned)
    assert len(result.belief.ids) == 5
    assert (one.model.registry.ids >= 0).sum() == 5
    assert result.learned
    assert result.perception_ms > 0 and result.update_ms > 0 and result.refresh_ms > 0


def test_structure_work_is_done_once_in_its_period_of_camera_time_and_sums_take_every_frame(
    frames: list[Aligned], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, worked = learner(), list[float]()
    one.structure_period = 0.2
    for aligned in frames:
        monkeypatch.setattr(one.model, "refresh", lambda stamp=aligned.frame.stamp: worked.append(stamp) or "")
        one.step(aligned)
    assert worked == [aligned.frame.stamp for aligned in frames[::2]]
    every = learner()
    for aligned in frames:
        every.step(aligned)
    assert one.model.step == every.model.step


def test_an_image_of_the_wrong_size_is_refused_and_the_learner_goes_on(frames: list[Aligned]) -> None:
    one = learner()
    one.step(frames[0])
    wrong = Aligned(Frame(0.1, np.zeros((4, 4, 3), np.uint8), frames[1].frame.joint_positions), frames[1].joints, None)
    with pytest.raises(FrameError):
        one.step(wrong)
    one.step(frames[1])


def test_a_checkpoint_holds_model_and_encoder(frames: list[Aligned], tmp_path: Path) -> None:
    one, two = learner(), learner()
    for aligned in frames[:-1]:
        one.step(aligned)
    path = tmp_path / "checkpoint.npz"
    write_arrays(path, one.checkpoint())
    assert "transitions" in two.load(path)
    assert two.model.posterior().hash == one.model.posterior().hash
    a, b = one.step(frames[-1]).belief, two.step(frames[-1]).belief
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.mean, b.mean)


def test_a_checkpoint_of_another_set_up_is_refused_and_nothing_changes(frames: list[Aligned], tmp_path: Path) -> None:
    one, two = learner(), learner(dt=0.05)
    one.step(frames[0])
    path = tmp_path / "checkpoint.npz"
    write_arrays(path, one.checkpoint())
    model, encoder = two.model, two.encoder
    with pytest.raises(CheckpointError, match="another set-up"):
        two.load(path)
    assert two.model is model and two.encoder is encoder


def test_joint_states_that_lack_a_joint_or_hold_nan_are_refused_with_a_sentence(frames: list[Aligned]) -> None:
    one = learner()
    positions = dict(frames[0].joints.positions)
    name = next(iter(positions))
    value = positions.pop(name)
    with pytest.raises(ValueError, match=f"joint '{name}' is absent from the joint states"):
        one.check_joints(positions)
    with pytest.raises(ValueError, match=f"joint '{name}' is at nan rad"):
        one.check_joints({**positions, name: float("nan")})
    one.check_joints({**positions, name: value, "gripper": 0.0})


def test_two_threads_may_write_one_checkpoint_at_the_same_time(tmp_path: Path) -> None:
    arrays = {"format": np.array(FORMAT), "numbers": np.arange(20_000.0)}
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write_arrays, tmp_path / "model.npz", arrays) for _ in range(24)]:
            done.result()
    np.testing.assert_array_equal(read_arrays(tmp_path / "model.npz")["numbers"], arrays["numbers"])
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
