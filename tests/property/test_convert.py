"""Messages carry every dataclass without loss, non-finite values included, and refuse what has the wrong form."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crl_interfaces")

from crl_interfaces import msg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rclpy.serialization import deserialize_message, serialize_message

from crl_node import posterior as posteriors
from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command
from crl_node.data import (
    ACTION_PARENT,
    MAX_SLOTS,
    NO_PARENT,
    Belief,
    Candidate,
    Edge,
    InformationGain,
    Plan,
    Posterior,
    Term,
    TermKind,
)
from crl_node.nodes import convert
from crl_node.nodes.base import seconds_to_stamp, stamp_to_seconds

#: Everything a float64 can be: NaN and the infinities too.
ANY = st.floats(width=64)
STAMPS = st.integers(0, 10**15).map(lambda ns: stamp_to_seconds(seconds_to_stamp(ns * 1e-9)))


def over_the_wire(message: Any) -> Any:
    return deserialize_message(serialize_message(message), type(message))


def assert_same(a: Any, b: Any) -> None:
    """Equal field by field, NaN equal to NaN, dtypes too."""
    assert type(a) is type(b)
    if hasattr(a, "__dataclass_fields__"):
        for field in fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        np.testing.assert_equal(a, b)


@st.composite
def beliefs(draw: st.DrawFn) -> Belief:
    n = draw(st.integers(0, 5))
    return Belief(
        stamp=draw(STAMPS),
        ids=draw(arrays(np.int64, n, elements=st.integers(-1, 2**60))),
        mean=draw(arrays(np.float64, (n, 5), elements=ANY)),
        cov=draw(arrays(np.float64, (n, 5, 5), elements=ANY)),
        colour=draw(arrays(np.float64, (n, 3), elements=ANY)),
        **{name: draw(arrays(np.float64, n, elements=ANY)) for name in ("extent", "existence", "visible")},
    )


@settings(max_examples=40, deadline=None)
@given(beliefs(), st.integers(0, 2**63))
def test_a_belief_survives(belief: Belief, version: int) -> None:
    message = over_the_wire(convert.belief_to_message(belief, frame_id="base", posterior_version=version))
    assert_same(convert.belief_from_message(message), belief)
    assert message.posterior_version == version
    assert message.image_stamp == message.joint_state_stamp == message.header.stamp


def a_posterior(seed: int, terms: int = posteriors.PLANNER_TERMS, particles: int = posteriors.PARTICLES) -> Posterior:
    rng = np.random.default_rng(seed)
    s, p, k = MAX_SLOTS, terms, particles
    f4 = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    i4 = lambda: rng.integers(-2, s, p).astype(np.int32)  # noqa: E731
    return posteriors.sealed(
        Posterior(
            version=int(rng.integers(1, 2**40)), step=int(rng.integers(0, 2**40)), dt=0.1,
            slot_ids=rng.integers(-1, 2**40, s), slot_extent=f4(s), term_kind=i4(), term_target=np.abs(i4()),
            term_parent=i4(), term_length=f4(p), term_probability=f4(p), weight_mean=f4(p),
            weight_variance=np.abs(f4(p)), weight_set_mean=f4(k, p), weight_sample=f4(k, p),
            particle_log_weight=f4(k), noise_std=np.abs(f4(s, 2, 2)) + 1e-3, wall=f4(4),
            hash="",
        )
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_a_posterior_survives_with_its_hash(seed: int) -> None:
    posterior = a_posterior(seed)
    back = convert.posterior_from_message(over_the_wire(convert.posterior_to_message(posterior, 3.25)))
    assert_same(back, posterior)
    posteriors.check(back)


def test_non_finite_weights_travel_and_are_caught_by_the_check() -> None:
    posterior = a_posterior(0)
    bad = posteriors.sealed(replace(posterior, weight_mean=np.full_like(posterior.weight_mean, np.nan)))
    back = convert.posterior_from_message(over_the_wire(convert.posterior_to_message(bad, 0.0)))
    with pytest.raises(posteriors.PosteriorError, match="'weight_mean' holds 96 non-finite values"):
        posteriors.check(back)


def test_a_posterior_of_the_wrong_size_is_refused_in_a_sentence() -> None:
    message = convert.posterior_to_message(a_posterior(0), 0.0)
    message.weight_sample = message.weight_sample[:-3]
    with pytest.raises(convert.ConversionError, match=r"'weight_sample' holds 1533 values.*\[16, 96\] needs 1536"):
        convert.posterior_from_message(message)


def test_a_changed_posterior_no_longer_has_its_hash() -> None:
    message = convert.posterior_to_message(a_posterior(0), 0.0)
    message.weight_mean[5] += 1.0
    with pytest.raises(posteriors.PosteriorError, match="hash is"):
        posteriors.check(convert.posterior_from_message(message))


terms = st.builds(
    Term, st.sampled_from(TermKind), st.integers(0, 11), st.sampled_from([NO_PARENT, ACTION_PARENT, 0, 3, 11]), ANY
)
edges = st.builds(
    Edge,
    cause=st.text(max_size=10).filter(lambda t: "\0" not in t and t.isprintable()),
    effect=st.sampled_from(["body.position", "slot_3.brightness"]),
    cause_slot=st.integers(-2, 2**50),
    effect_slot=st.integers(0, 2**50),
    probability=ANY,
    terms=st.lists(st.tuples(terms, ANY, ANY, ANY), max_size=3).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(edges, max_size=4).map(tuple))
def test_a_graph_survives_in_its_order(graph: tuple[Edge, ...]) -> None:
    message = over_the_wire(convert.graph_to_message(graph, 1.0, posterior_version=3))
    assert_same(convert.graph_from_message(message), graph)


def test_an_unknown_term_is_refused_with_the_known_ones() -> None:
    message = msg.CausalGraph(edges=[msg.Edge(mechanisms=[msg.Mechanism(term=msg.Term(kind=99))])])
    with pytest.raises(convert.ConversionError, match="term kind 99 is unknown; known are 0 INERTIA"):
        convert.graph_from_message(message)


candidates = st.builds(
    Candidate,
    actions=st.integers(0, 6).flatmap(lambda h: arrays(np.float32, (h, 2), elements=st.floats(width=32))),
    score=ANY,
    gain=st.builds(InformationGain, ANY, ANY, ANY),
    label=st.sampled_from(["push slot_3", "cem", ""]),
)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Plan,
        stamp=STAMPS,
        posterior_version=st.integers(0, 2**63),
        chosen=candidates,
        rejected=st.lists(candidates, max_size=3).map(tuple),
        path=arrays(np.float32, (4, 2), elements=st.floats(width=32)),
        plan_ms=ANY,
        swap_ms=ANY,
    )
)
def test_a_plan_survives(plan: Plan) -> None:
    message = over_the_wire(convert.plan_to_message(plan, policy="curious", provider="CPU"))
    assert_same(convert.plan_from_message(message), plan)
    assert (message.policy, message.provider) == ("curious", "CPU")


@st.composite
def trajectories(draw: st.DrawFn) -> JointTrajectory:
    n, joints = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    times = np.sort(draw(arrays(np.float64, n, elements=st.integers(0, 10**9).map(lambda ns: ns * 1e-9))))
    return JointTrajectory(
        tuple(f"joint_{i}" for i in range(joints)),
        np.array([convert.duration_to_seconds(convert.seconds_to_duration(t)) for t in times]),
        draw(arrays(np.float64, (n, joints), elements=ANY)),
        draw(arrays(np.float64, (n, joints), elements=ANY)),
    )


@settings(max_examples=40, deadline=None)
@given(st.none() | trajectories(), STAMPS, arrays(np.float64, 2, elements=ANY), st.booleans())
def test_a_command_survives(trajectory: JointTrajectory | None, stamp: float, velocity: Any, hold: bool) -> None:
    command = Command(stamp, 7, stamp, 3, hold, velocity, 0.1, 0.1, trajectory)
    message = over_the_wire(convert.command_to_message(command))
    assert_same(convert.command_from_message(message), command)


def test_a_ragged_trajectory_is_refused_in_a_sentence() -> None:
    trajectory = JointTrajectory(("a", "b"), np.array([0.0, 0.1]), np.zeros((2, 2)), np.zeros((2, 2)))
    message = convert.trajectory_to_message(trajectory, 0.0)
    message.points[1].velocities = [0.0]
    with pytest.raises(convert.ConversionError, match=r"point 1 has 1 velocities for 2 joints \(a, b\)"):
        convert.trajectory_from_message(message)


@given(st.integers(0, 4 * 10**15))
def test_stamps_of_simulated_time_are_exact_to_the_nanosecond(nanoseconds: int) -> None:
    stamp = convert.Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    assert seconds_to_stamp(stamp_to_seconds(stamp)) == stamp
