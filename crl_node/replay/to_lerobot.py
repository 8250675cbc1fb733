"""`crl bag to-lerobot`: camera, joints and executed commands of a bag, aligned by header time, as a LeRobotDataset."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.alignment import AlignConfig, Aligned, Aligner
from crl_node.bags import messages as read
from crl_node.bags.lerobot_format import Feature, LeRobotWriter
from crl_node.bags.reader import BagReader
from crl_node.perception.validate import FrameError, decode_image
from crl_node.replay.settings import ReplayError
from crl_node.replay.stream import EXECUTED, IMAGE, JOINTS, Event, Kind, events, executed, joint_values, roles

CAMERA, STATE, VELOCITY, ACTION = (
    "observation.images.camera",
    "observation.state",
    "observation.velocity",
    "action",
)
#: Images from whose stamps the frame rate is taken.
RATE_FROM = 200


@dataclass
class Converted:
    """What became of the recorded frames."""

    episodes: int = 0
    frames: int = 0  # in the dataset
    recorded: int = 0
    rejected: int = 0  # wrong size or encoding
    unpaired: int = 0  # no joint state within the tolerance
    alone: int = 0  # no frame one period later: what was commanded from here on is not known
    bad_inputs: int = 0  # joint states and commands that cannot be used
    fps: int = 0

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.frames} of {self.recorded} frames in {self.episodes} episodes at {self.fps} frames a second; left "
            f"out: {self.unpaired} without a joint state near enough, {self.alone} without a successor one period "
            f"later, {self.rejected} that could not be decoded"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def convert(
    bag: Path, out: Path, *, tolerance: float = 0.02, fps: float | None = None, task: str = "explore the table",
    on_frame: Callable[[], None] = lambda: None,
) -> Converted:  # fmt: skip
    """Write `bag` as a LeRobotDataset into the folder `out`. ReplayError, BagError: a sentence.

    A frame's state is the joint state nearest to its header stamp, at most `tolerance` s away; its action is the mean
    tip velocity that the executed commands amount to until the next frame. Where the next frame is not one period later
    (`fps`; without it the camera's own rate) an episode ends.
    """
    reader = BagReader(bag)
    topics = {name: topic for name, topic in roles(reader).items() if name in (IMAGE, JOINTS, EXECUTED)}
    rate = fps if fps is not None else _rate(reader, topics[IMAGE])
    counts = Converted(fps=max(1, round(rate)))
    writer: LeRobotWriter | None = None
    for rows in _episodes(_aligned(reader, topics, 1.0 / rate, tolerance, counts), counts):
        if writer is None:
            writer = _open(out, rows[0][0], counts.fps, task)
        joints = tuple(rows[0][0].joints.positions)
        writer.add_episode(
            {
                CAMERA: [frame.frame.image for frame, _ in rows],
                STATE: [np.array([frame.joints.positions[name] for name in joints]) for frame, _ in rows],
                VELOCITY: [
                    np.array([frame.joints.velocities.get(n, 0.0) for n in joints]) for frame, _ in rows
                ],
                ACTION: [action for _, action in rows],
            }
        )
        counts.frames += len(rows)
        for _ in rows:
            on_frame()
    if writer is None:
        raise ReplayError(f"bag {bag} gives no episode: {counts.sentence}")
    writer.close()
    counts.episodes = writer.episodes
    return counts


def _open(out: Path, first: Aligned, fps: int, task: str) -> LeRobotWriter:
    joints = tuple(first.joints.positions)
    height, width, _ = first.frame.image.shape
    return LeRobotWriter(
        out,
        (
            Feature(CAMERA, (height, width, 3), ("height", "width", "channels"), image=True),
            Feature(STATE, (len(joints),), tuple(f"{name}.pos" for name in joints)),
            Feature(VELOCITY, (len(joints),), tuple(f"{name}.vel" for name in joints)),
            Feature(ACTION, (2,), ("tip.vx", "tip.vy")),
        ),
        fps=fps,
        robot="crl_node",
        task=task,
    )


def _rate(reader: BagReader, topic: str) -> float:
    """Frames a second by the header stamps of the first images."""
    raws = itertools.islice(reader.raw([topic]), RATE_FROM)
    messages = (reader.decode(raw) for raw in raws)
    stamps = np.array([read.seconds(m.header.stamp) for m in messages if m is not None])
    steps = np.diff(stamps)
    if not (steps > 0).any():
        raise ReplayError(f"bag {reader.path}: {topic} has fewer than two images; its rate is not known")
    return float(1.0 / np.median(steps[steps > 0]))


def _aligned(
    reader: BagReader, topics: dict[str, str], period: float, tolerance: float, counts: Converted
) -> Iterator[Aligned]:
    """Frames with their joint states; `action` is that since the frame before."""

    def fresh() -> Aligner:
        return Aligner(AlignConfig(period=period, tolerance=tolerance))

    aligner, size = fresh(), None

    def ready(force: bool = False) -> Iterator[Aligned]:
        before = aligner.counts.unpaired
        while (found := aligner.pop(force=force)) is not None:
            yield found
        counts.unpaired += aligner.counts.unpaired - before

    for event in events(reader, topics):
        if event.kind is Kind.RESTART:
            yield from ready(force=True)
            aligner = fresh()
            continue
        try:
            size = _feed(aligner, event, size, counts)
        except FrameError:
            counts.rejected += 1
        except ValueError:
            counts.bad_inputs += 1
        yield from ready()
    yield from ready(force=True)


def _feed(
    aligner: Aligner, event: Event, size: tuple[int, int] | None, counts: Converted
) -> tuple[int, int] | None:
    """Give one event to the aligner; the size (width, height) px that all images have."""
    if event.kind is Kind.EXECUTED:
        aligner.add_command(executed(event.message))
    elif event.kind is Kind.JOINTS:
        positions, velocities = joint_values(event.message)
        if not positions or not np.isfinite(list(positions.values())).all():
            raise ValueError(f"joint state at {event.stamp:.3f} s is empty or not finite; not used")
        aligner.add_joints(event.stamp, positions, velocities)
    elif event.kind is Kind.IMAGE:
        counts.recorded += 1
        m = event.message
        size = size or (int(m.width), int(m.height))
        image = decode_image(
            m.data,
            width=int(m.width),
            height=int(m.height),
            step=int(m.step),
            encoding=str(m.encoding),
            expected=size,
        )
        aligner.add_image(event.stamp, image)
    return size


def _episodes(frames: Iterator[Aligned], counts: Converted) -> Iterator[list[tuple[Aligned, np.ndarray]]]:
    """Stretches of frames one period apart, each with what was commanded until the next one."""
    rows: list[tuple[Aligned, np.ndarray]] = []
    before: Aligned | None = None
    for frame in frames:
        same = before is not None and set(frame.joints.positions) == set(before.joints.positions)
        if before is not None and frame.action is not None and same:
            rows.append((before, np.asarray(frame.action)))
        elif before is not None:
            counts.alone += 1
            if rows:
                yield rows
            rows = []
        before = frame
    counts.alone += before is not None
    if rows:
        yield rows
