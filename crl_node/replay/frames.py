"""Recorded streams to the frames that the learner uses: the live aligner, and what the live run did where known."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from crl_node.alignment import Aligned, Aligner, JointSample
from crl_node.learning import Learner, align_config
from crl_node.perception.validate import FrameError, decode_image
from crl_node.replay.stream import Event, Kind, executed, joint_values, nanoseconds


@dataclass
class FrameCounts:
    """What became of the recorded frames and of what came with them."""

    recorded: int = 0
    used: int = 0  # became beliefs
    learned: int = 0  # of these: a transition was learned from
    not_used_live: int = 0  # the live learner had a newer one by then, or the run ended before it
    rejected: int = 0  # wrong size, encoding, length
    unpaired: int = 0  # no joint state near enough
    bad_inputs: int = 0  # joint states and commands that cannot be used


class Frames:
    """One start of a run: feeds an aligner from events and gives out what is complete.

    `used`: stamps in ns of the frames the live run used; None: the aligner decides alone.
    """

    def __init__(
        self, parameters: Any, learner: Learner, used: Collection[int] | None, counts: FrameCounts
    ) -> None:
        self._learner, self._used, self.counts = learner, used, counts
        self.aligner = Aligner(align_config(parameters))
        self.joints: JointSample | None = None  # newest

    def feed(self, event: Event) -> Iterator[Aligned]:
        """The frames that are complete now that `event` has come."""
        try:
            if event.kind is Kind.EXECUTED:
                self.aligner.add_command(executed(event.message))
            elif event.kind is Kind.JOINTS:
                self._joint_state(event)
            elif event.kind is Kind.IMAGE:
                self._image(event)
        except FrameError:
            self.counts.rejected += 1
        except ValueError:
            self.counts.bad_inputs += 1
        yield from self._ready()

    def finish(self) -> Iterator[Aligned]:
        """Frames that waited for what never came."""
        yield from self._ready(force=True)
        self.counts.unpaired += self.aligner.counts.unpaired

    def interrupt(self, why: str) -> None:
        """The last frame could not be used: no transition to the next one."""
        self.aligner.interrupt(why)

    def _ready(self, force: bool = False) -> Iterator[Aligned]:
        while (aligned := self.aligner.pop(force=force)) is not None:
            yield aligned

    def _joint_state(self, event: Event) -> None:
        positions, velocities = joint_values(event.message)
        self._learner.check_joints(positions)
        finite = {name: v for name, v in velocities.items() if abs(v) < 1e6}  # NaN compares false
        self.aligner.add_joints(event.stamp, positions, finite)
        self.joints = JointSample(event.stamp, positions, finite)

    def _image(self, event: Event) -> None:
        self.counts.recorded += 1
        if self._used is not None and nanoseconds(event.stamp) not in self._used:
            self.counts.not_used_live += 1
            return
        message, camera = event.message, self._learner.camera
        image = decode_image(
            message.data, width=int(message.width), height=int(message.height), step=int(message.step),
            encoding=str(message.encoding), expected=(camera.width, camera.height),
        )  # fmt: skip
        self.aligner.add_image(event.stamp, image)
