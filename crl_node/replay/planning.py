"""The planner node's decisions again: belief in, command out, without ROS and without clocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crl_node.alignment import JointSample
from crl_node.arm.commander import Chunk, TipCommander
from crl_node.arm.profile import RobotProfile
from crl_node.command import Command, CommandedVelocities
from crl_node.curiosity.assembly import default_model, planner_from
from crl_node.curiosity.goals import Goal, hand_over
from crl_node.data import Belief, Plan, Posterior
from crl_node.replay.settings import ReplayError, Settings

#: Posteriors and beliefs kept for the commands of a real-time run, which answer with what was newest then.
KEPT = 100


class CommandReplay:
    """Planner and commander of one recorded run."""

    def __init__(self, settings: Settings, profile: RobotProfile, model: Path | None = None) -> None:
        self.parameters = settings.node("planner")
        self.profile = profile
        self.planner = planner_from(self.parameters, profile, model or default_model())
        self._commander = TipCommander(profile)
        self._plan: Plan | None = None
        self._sent = CommandedVelocities()
        self._sequence = 0
        self._goals: list[tuple[int, tuple[Goal, ...]]] = []  # still to come: from which command on, and which
        self._posteriors: OrderedDict[int, Posterior] = OrderedDict()
        self._beliefs: OrderedDict[int, Belief] = OrderedDict()

    def wanted(self, from_command: int, goals: tuple[Goal, ...]) -> None:
        """Goals as they were from the command with that sequence on."""
        self._goals.append((from_command, goals))

    def _follow(self) -> None:
        """Give the planner the goals that the next command follows. ReplayError when it does not take them."""
        while self._goals and self._goals[0][0] <= self._sequence + 1:
            try:
                hand_over(self.planner, self._goals.pop(0)[1])
            except ValueError as error:
                raise ReplayError(f"a recorded goal cannot be followed under these parameters: {error}") from error

    # -- lockstep: every belief gets its command ----------------------------------------------------------------------

    def answer(self, belief: Belief, posterior: Posterior | None, joints: JointSample) -> Iterator[Plan | Command]:
        """The plan (if there is one) and the command to `belief`, as the node gives them in lockstep."""
        if posterior is not None:
            self.planner.swap(posterior)
        start = belief.stamp
        self._follow()
        try:
            self._plan = plan = self._plan_from(belief)
        except ValueError:  # not finite, no body: the node holds
            yield self._command(None, joints, start, start)
            return
        yield plan
        yield self._command(plan.chosen.actions[0].astype(float), joints, start, plan.stamp)

    # -- real time: what the node was at is read from what it sent ----------------------------------------------------

    def remember(self, belief: Belief, posterior: Posterior | None) -> None:
        """Keep what a later command may answer."""
        self._beliefs[round(belief.stamp * 1e9)] = belief
        if posterior is not None:
            self._posteriors[posterior.version] = posterior
        for kept in (self._beliefs, self._posteriors):
            while len(kept) > KEPT:
                kept.popitem(last=False)

    def like(self, recorded: Command, joints: JointSample | None) -> Iterator[Plan | Command]:
        """Plan and command again for a `recorded` one: from its belief, under its posterior, starting when it did.

        A further command from the belief that the last plan was made of goes on with that plan, as the node does.
        """
        posterior = self._posteriors.get(recorded.posterior_version)
        if posterior is not None and posterior.version != self.planner.version:
            self.planner.swap(posterior)
        belief = self._beliefs.get(round(recorded.belief_stamp * 1e9))
        self._sequence = recorded.sequence - 1
        self._follow()
        if belief is None:
            yield self._command(None, joints, recorded.stamp, recorded.belief_stamp)
            return
        plan = self._plan
        if plan is None or plan.stamp != belief.stamp:
            try:
                self._plan = plan = self._plan_from(belief)
            except ValueError:
                yield self._command(None, joints, recorded.stamp, recorded.belief_stamp)
                return
            yield plan
        velocity = plan.action_at(recorded.stamp, self.parameters.period)
        yield self._command(velocity, joints, recorded.stamp, plan.stamp)

    # -- both ---------------------------------------------------------------------------------------------------------

    def _plan_from(self, belief: Belief) -> Plan:
        return self.planner.plan(belief, previous=self._plan, executed=self._sent.at(belief.stamp))

    def _command(
        self, velocity: np.ndarray | None, joints: JointSample | None, start: float, belief_stamp: float
    ) -> Command:
        chunk: Chunk | None = None
        if joints is not None:
            try:
                speeds = {name: joints.velocities.get(name, 0.0) for name in joints.positions}
                chunk = (
                    self._commander.hold(joints.positions, start)
                    if velocity is None
                    else self._commander.chunk(joints.positions, speeds, velocity, start=start)
                )
            except ValueError:  # not finite: the node holds
                chunk = None
        hold = velocity is None or chunk is None
        self._sequence += 1
        moved = np.zeros(2) if hold or chunk is None else chunk.velocity
        self._sent.add(start, moved)
        return Command(
            stamp=start, sequence=self._sequence, belief_stamp=belief_stamp, posterior_version=self.planner.version,
            hold=hold, velocity=moved,
            duration=self.profile.command_duration, ramp=self.profile.command_ramp,
            trajectory=None if chunk is None else chunk.trajectory,
        )  # fmt: skip
