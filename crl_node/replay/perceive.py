"""The images of a recording to episodes of beliefs: perception again, without a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from crl_node.alignment import Aligned
from crl_node.bags.reader import BagReader
from crl_node.data import Array, Belief
from crl_node.learning import learner_from
from crl_node.mechanisms.registry import Registry
from crl_node.perception.validate import FrameError
from crl_node.replay.episode import Episode
from crl_node.replay.frames import FrameCounts, Frames
from crl_node.replay.settings import Settings
from crl_node.replay.stream import EXECUTED, IMAGE, JOINTS, Event, Kind, events, roles
from crl_node.world_model import ModelConfig

#: s, a recording that is silent for longer goes on as another episode: things may have been moved.
PAUSE = 5.0
#: Share of the control period that has to be between two frames for both to be used: a camera may be faster.
LEAST = 0.75


class Collector:
    """Beliefs of one episode while it lasts; the registry says when a slot becomes a variable, as in the live model."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.registry = Registry(
            confirm=config.confirm, certainty=config.certainty, absent_after=config.absent_after
        )
        self.beliefs: list[Belief] = []
        self.actions: list[Array] = []
        self.since: dict[int, int] = {}
        self.extents: dict[int, float] = {}
        self.distances: dict[tuple[int, int], float] = {}

    def add(self, belief: Belief, action: Array | None) -> None:
        """The next belief and the action that led to it."""
        registry = self.registry
        new, _ = registry.update(belief)
        for index in new:
            slot = int(registry.ids[index])
            self.since.setdefault(slot, len(self.beliefs))
            self.extents.setdefault(slot, float(registry.extent[index]))
        for i in np.flatnonzero(registry.used[1:]) + 1:
            for j in np.flatnonzero(registry.used[1:]) + 1:
                if i < j and registry.distance[i, j] > 0:
                    a, b = sorted((int(registry.ids[i]), int(registry.ids[j])))
                    self.distances.setdefault((a, b), float(registry.distance[i, j]))
        self.beliefs.append(belief)
        self.actions.append(np.full(2, np.nan) if action is None else np.asarray(action, float))

    def episode(self) -> Episode:
        width = max(len(b.ids) for b in self.beliefs)
        ids = np.full((len(self.beliefs), width), -1, np.int64)
        values = np.zeros((len(self.beliefs), width, 36))
        for t, b in enumerate(self.beliefs):
            n = len(b.ids)
            ids[t, :n] = b.ids
            values[t, :n] = np.hstack(
                [
                    b.mean,
                    b.cov.reshape(n, 25),
                    b.colour,
                    b.extent[:, None],
                    b.existence[:, None],
                    b.visible[:, None],
                ]
            )
        stamps = np.array([b.stamp for b in self.beliefs])
        return Episode(
            self.config, stamps, np.array(self.actions), ids, values, self.since,
            {0: float(self.registry.extent[0]), **self.extents}, self.distances,
        )  # fmt: skip


class Perceiver:
    """Turns the events of one bag into episodes; a new one begins where the clock goes back or pauses.

    Every frame that is a control period after the last is used, also those a live learner skipped for want of time.
    """

    def __init__(self, settings: Settings, on_frame: Callable[[], None] = lambda: None) -> None:
        self.counts, self.found = FrameCounts(), list[Episode]()
        self._last_image: float | None = None  # s, stamp of the last image that was used
        self._parameters, self._on_frame = settings.node("learner"), on_frame
        # The events come in the order of stamps and frames are taken one by one: nothing has to be waited for.
        self._parameters.lockstep = False
        self._begin()

    def take(self, event: Event) -> None:
        """The next event of the bag."""
        if event.kind is Kind.IMAGE and self._last_image is not None:
            since = event.stamp - self._last_image
            if since > PAUSE:
                self.end()
                self._begin()
            elif 0 <= since < LEAST * self._parameters.period:
                self.counts.recorded += 1
                self.counts.not_used_live += 1
                return
        if event.kind is Kind.RESTART:
            self.end()
            self._begin()
            return
        if event.kind is Kind.IMAGE:
            self._last_image = event.stamp
        for aligned in self._frames.feed(event):
            self._perceive(aligned)

    def end(self) -> None:
        """The episode in hand is over."""
        for aligned in self._frames.finish():
            self._perceive(aligned)
        if self._collector.beliefs:
            self.found.append(self._collector.episode())

    def _begin(self) -> None:
        self._learner = learner_from(self._parameters)
        self._collector = Collector(self._learner.config)
        self._frames = Frames(self._parameters, self._learner, None, self.counts)
        self._last_image = None

    def _perceive(self, aligned: Aligned) -> None:
        try:
            belief = self._learner.perceive(aligned)
        except FrameError:
            self.counts.rejected += 1
            self._frames.interrupt("the last frame was rejected")
            return
        self.counts.used += 1
        self.counts.learned += aligned.action is not None
        self._collector.add(belief, aligned.action)
        self._on_frame()


def episodes(
    bag: Path, settings: Settings, on_frame: Callable[[], None] = lambda: None
) -> tuple[list[Episode], FrameCounts]:
    """The episodes of a bag, perceived again, and what became of its frames. ReplayError when it lacks input."""
    reader = BagReader(bag)
    topics = {name: topic for name, topic in roles(reader).items() if name in (IMAGE, JOINTS, EXECUTED)}
    perceiver = Perceiver(settings, on_frame)
    for event in events(reader, topics):
        perceiver.take(event)
    perceiver.end()
    return perceiver.found, perceiver.counts
