"""The planner's service for goals, and the topic that says which there are."""

from __future__ import annotations

from collections.abc import Callable

from crl_interfaces.msg import Goal as GoalMessage
from crl_interfaces.msg import Goals as GoalsMessage
from crl_interfaces.srv import SetGoal
from rclpy.qos import DurabilityPolicy, QoSProfile

from crl_node.curiosity.goals import Goal, GoalError, Goals, hand_over
from crl_node.curiosity.planner import Planner
from crl_node.data import Belief
from crl_node.nodes import convert
from crl_node.nodes.base import ManagedNode

#: Policies that weigh goals.
FOLLOW = ("curious",)


class GoalDesk:
    """Takes goals at planner/set_goal and tells them on planner/goals; the planner shows it every belief."""

    def __init__(
        self, node: ManagedNode, planner: Planner, next_command: Callable[[], int],
        when_idle: Callable[[Callable[[], None]], None],
    ) -> None:  # fmt: skip
        """`next_command`: sequence of the next command. `when_idle` calls when no plan is being made."""
        self._node, self._planner, self._next, self._when_idle = node, planner, next_command, when_idle
        c = planner.config
        self.goals = Goals(c.table, c.workspace)
        self._belief: Belief | None = None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._out = node.create_publisher(GoalsMessage, "planner/goals", latched)
        self._service = node.create_service(SetGoal, "planner/set_goal", node.guarded(self._on_request))

    def close(self) -> None:
        """Undo the constructor."""
        self._node.destroy_service(self._service)
        self._node.destroy_publisher(self._out)

    @property
    def words(self) -> str:
        """All goals in a sentence each; empty when there are none."""
        return "; ".join(str(goal) for goal in self.goals.all)

    def observe(self, belief: Belief) -> None:
        """The planner is about to plan from `belief`: goals that it shows as reached and held are given up."""
        self._belief = belief
        done = self.goals.observe(belief)
        if done:
            self._use("; ".join(f"{goal}: reached, given up" for goal in done))
            self._node.get_logger().info(f"goal: {done[0]}: reached, given up")

    def _on_request(self, request: SetGoal.Request, response: SetGoal.Response) -> SetGoal.Response:
        response.slot = -1
        try:
            response.message = self._clear(request) if request.clear else self._set(request, response)
            response.success = True
        except GoalError as error:
            response.message = str(error)
        self._node.get_logger().info(f"goal: {response.message}")
        return response

    def _set(self, request: SetGoal.Request, response: SetGoal.Response) -> str:
        policy = self._node.params.policy
        if policy not in FOLLOW:
            raise GoalError(f"policy '{policy}' follows no goals; {', '.join(FOLLOW)} does")
        if self._belief is None:
            raise GoalError("nothing has been seen yet: there is no thing to bring anywhere")
        before = self.goals.all
        goal = self.goals.set(self._belief, request.thing, request.x, request.y, request.weight, request.hold)
        try:
            self._use(str(goal))
        except ValueError as error:  # of the planner's own
            self.goals.restore(before)
            raise GoalError(str(error)) from error
        response.slot = goal.slot
        return str(goal)

    def _clear(self, request: SetGoal.Request) -> str:
        gone = self.goals.clear(self._belief, request.thing)
        if not gone:
            return "there was no goal; it is curious and nothing else"
        text = "; ".join(f"{goal}: given up" for goal in gone)
        self._use(text)
        return text

    def _use(self, note: str) -> None:
        """Hand the goals to the planner and tell everybody, as soon as no plan is being made without them."""
        goals = self.goals.all
        self._when_idle(lambda: self._hand_over(goals, note))

    def _hand_over(self, goals: tuple[Goal, ...], note: str) -> None:
        hand_over(self._planner, goals)
        stamp = self._belief.stamp if self._belief is not None else max(self._node.now(), 0.0)
        self._out.publish(
            GoalsMessage(
                header=convert.header(stamp), from_command=self._next(), note=note,
                goals=[
                    GoalMessage(
                        slot=g.slot, name=g.name, x=float(g.place[0]), y=float(g.place[1]), weight=g.weight, hold=g.hold
                    )
                    for g in goals
                ],
            )
        )  # fmt: skip
