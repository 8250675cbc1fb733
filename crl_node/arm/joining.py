"""A command, joined to what is being executed without a jump.

A command that arrives after its first point's time would be taken up in its middle; one that was made before the gate
held begins elsewhere. Position and velocity there differ from those being executed, and the controller would get from
one to the other as hard as it can.
"""

from __future__ import annotations

import numpy as np

from crl_node.arm.checks import JointState, RejectionError, check_limits, check_workspace
from crl_node.arm.kinematics import Arm
from crl_node.arm.trajectory import JointTrajectory
from crl_node.data import Array

#: An arm within this of its reference follows it, rad.
FOLLOWS = 0.03
#: Differences that no motor feels.
_SAME_POSITION, _SAME_VELOCITY = 1e-5, 1e-3  # rad, rad/s
#: Points closer than this make one, s: a piece between them would be stiff with rounding.
_SHORTEST_PIECE = 2e-4
#: How long the change from one velocity to the other may take, s, the quickest first.
_BLENDS = (0.02, 0.03, 0.045, 0.06, 0.08, 0.10, 0.12)


def spliced(
    executing: tuple[float, JointTrajectory] | None, now: float, start: float, trajectory: JointTrajectory
) -> tuple[float, JointTrajectory]:
    """What to send at `now` s, so that `trajectory` begins at `start` s: (start s, trajectory).

    A controller replaces what it executes by what arrives, when it arrives. So what is `executing` (start s,
    trajectory) is repeated from now to `start`, point by point: whenever in between it is taken up, position and
    velocity go on. Where `trajectory` does not go on from what is executed (an arm that is held where it is), it is
    sent as it is.
    """
    if executing is None or start - now <= _SHORTEST_PIECE or now < executing[0] - 1e-6:
        return start, trajectory
    before, wait = executing[1].after(max(0.0, now - executing[0])), start - now
    q, dq = before.sample(wait)
    apart = np.abs(q - trajectory.positions[0]).max(), np.abs(dq - trajectory.velocities[0]).max()
    if apart[0] > _SAME_POSITION or apart[1] > _SAME_VELOCITY:
        return start, trajectory
    early = before.times < wait - _SHORTEST_PIECE
    return now, JointTrajectory(
        trajectory.joint_names,
        np.concatenate([before.times[early], wait + trajectory.times]),
        np.vstack([before.positions[early], trajectory.positions]),
        np.vstack([before.velocities[early], trajectory.velocities]),
    )


def joined(
    trajectory: JointTrajectory,
    late: float,
    executing: tuple[Array, Array],
    measured: JointState,
    arm: Arm,
    *,
    follows: bool = False,
) -> JointTrajectory:
    """What to execute from now on for a `trajectory` that began `late` s ago; its time 0 is now.

    It starts from what is executed (q [J] rad, dq [J] rad/s); where the arm does not follow that (`follows` False),
    from the command's own state, as far as that lies between what is executed and what is measured. Then it takes up
    the command's velocities. The way missed until then is not caught up with: commands come with the accelerations the
    arm has, there are none left. RejectionError when limits or workspace forbid it.
    """
    rest = trajectory.after(late) if late > 0 else trajectory
    q, dq = rest.positions[0], rest.velocities[0]
    start, speed = executing
    if not follows:
        start, speed = (
            np.clip(wanted, np.minimum(one, other), np.maximum(one, other))
            for wanted, one, other in (
                (q, executing[0], measured.position),
                (dq, executing[1], measured.velocity),
            )
        )
    if np.abs(start - q).max() <= _SAME_POSITION and np.abs(speed - dq).max() <= _SAME_VELOCITY:
        return rest
    refusal: RejectionError | None = None
    for blend in _BLENDS:
        if blend >= rest.duration:
            break
        q1, dq1 = rest.sample(blend)
        reached = start + 0.5 * blend * (speed + dq1)
        later = rest.times > blend + 1e-3
        candidate = JointTrajectory(
            trajectory.joint_names,
            np.concatenate([[0.0, blend], rest.times[later]]),
            np.vstack([start[None], reached[None], rest.positions[later] + (reached - q1)]),
            np.vstack([speed[None], dq1[None], rest.velocities[later]]),
        )
        try:
            check_limits(candidate, arm.profile)
            check_workspace(candidate, measured, arm)
        except RejectionError as error:
            refusal = error
            continue
        return candidate
    raise RejectionError(
        "late",
        f"a command that is {late:.3f} s late cannot be joined to what is executed: {refusal or 'it is nearly over'}",
    )
