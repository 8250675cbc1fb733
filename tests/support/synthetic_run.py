"""A made-up run with known answers, written with the bag writer: no ROS, no simulator, no learning.

Four cubes; each is pushed along +y for a while, one after the other. Slots are the truth plus a constant error
of 1 mm; slot ids are 1..4 in the order of the cubes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from crl_node.bags.definitions import Definitions
from crl_node.bags.metadata import TopicInfo
from crl_node.bags.writer import BagWriter
from crl_node.data import ACTION_PARENT, MAX_SLOTS, NO_PARENT, Posterior, TermKind
from crl_node.posterior import PARTICLES, PLANNER_TERMS, sealed

NAMES = ("red_cube", "green_cube", "purple_cube", "yellow_cube")
START = np.array([[0.50, -0.20], [0.55, -0.05], [0.60, 0.08], [0.70, 0.18]])
ERROR = 0.001  # m, constant error of every slot in x
DT = 0.1
STEP = 0.004  # m per step while pushed
PUSHED = 15  # steps that each cube is pushed
EXTENT = 0.03

TOPICS = {
    "/clock": "rosgraph_msgs/msg/Clock",
    "/camera/image_raw": "sensor_msgs/msg/Image",
    "/sim/ground_truth": "crl_interfaces/msg/GroundTruth",
    "/learner/belief": "crl_interfaces/msg/Belief",
    "/learner/posterior": "crl_interfaces/msg/Posterior",
    "/learner/graph": "crl_interfaces/msg/CausalGraph",
    "/learner/report": "crl_interfaces/msg/StepReport",
    "/planner/plan": "crl_interfaces/msg/Plan",
    "/planner/command": "crl_interfaces/msg/Command",
    "/gate/executed": "crl_interfaces/msg/Command",
}


def definitions() -> Definitions:
    """Installed definitions, then those of the sources (crl_interfaces before it is built)."""
    root = Path(__file__).resolve().parents[2]
    return Definitions([Path(sys.prefix) / "share", root / "ros_ws" / "src"])


class Messages:
    """Makes and serialises messages from their definitions; fields that are not given are empty."""

    def __init__(self) -> None:
        self.store = get_typestore(Stores.EMPTY)
        for name in TOPICS.values():
            types = get_types_from_msg(definitions().text(name), name)
            self.store.register({k: v for k, v in types.items() if k not in self.store.fielddefs})

    def make(self, type_name: str, **given: Any) -> Any:
        """A message of `type_name` with the given fields."""
        _, fields = self.store.fielddefs[type_name]
        values = {name: given.pop(name, None) for name, _ in fields}
        assert not given, f"{type_name} has no field {sorted(given)}"
        for name, (kind, detail) in fields:
            if values[name] is None:
                values[name] = self._empty(kind, detail)
        return self.store.types[type_name](**values)

    def _empty(self, kind: int, detail: Any) -> Any:
        if kind == 1:  # a primitive
            return "" if detail[0] == "string" else False if detail[0] == "bool" else 0
        if kind == 2:  # a message
            return self.make(detail)
        (inner_kind, inner), count = detail
        if kind == 3:  # an array of fixed length
            return np.zeros(count, inner[0]) if inner_kind == 1 else [self._empty(inner_kind, inner)] * count
        if inner_kind == 1 and inner[0] != "string":
            return np.zeros(0, inner[0])
        return []

    def bytes(self, message: Any) -> bytes:
        return bytes(self.store.serialize_cdr(message, message.__msgtype__))

    def time(self, seconds: float) -> Any:
        total = round(seconds * 1e9)
        return self.make("builtin_interfaces/msg/Time", sec=total // 10**9, nanosec=total % 10**9)

    def header(self, seconds: float) -> Any:
        return self.make("std_msgs/msg/Header", stamp=self.time(seconds), frame_id="base")


def positions(step: int) -> np.ndarray:
    """True positions [4, 2] m at a control step."""
    out = START.copy()
    for n in range(4):
        out[n, 1] += STEP * np.clip(step - 5 - n * PUSHED, 0, PUSHED)
    return out


def posterior(version: int = 3) -> Posterior:
    """A posterior that knows the pushes of the body and nothing else."""
    kind, target = np.zeros(PLANNER_TERMS, np.int32), np.zeros(PLANNER_TERMS, np.int32)
    parent, length = np.full(PLANNER_TERMS, NO_PARENT, np.int32), np.zeros(PLANNER_TERMS, np.float32)
    probability, weight = np.zeros(PLANNER_TERMS, np.float32), np.zeros(PLANNER_TERMS, np.float32)
    kind[0], parent[0], probability[0], weight[0] = TermKind.ACTION, ACTION_PARENT, 1.0, 1.0
    for n in range(4):
        kind[n + 1], target[n + 1], parent[n + 1] = TermKind.PUSH, n + 1, 0
        length[n + 1], probability[n + 1], weight[n + 1] = 0.05, 0.9, 1.0
    ids = np.full(MAX_SLOTS, -1, np.int64)
    ids[:5] = range(5)
    return sealed(
        Posterior(
            version, 60, DT, ids, np.full(MAX_SLOTS, EXTENT, np.float32), kind, target, parent, length, probability,
            weight, np.zeros_like(weight), np.tile(weight, (PARTICLES, 1)), np.tile(weight, (PARTICLES, 1)),
            np.full(PARTICLES, -np.log(PARTICLES), np.float32), np.full((MAX_SLOTS, 2, 2), 0.01, np.float32),
            np.array([0.38, 0.82, -0.3, 0.3], np.float32), "",
        )
    )  # fmt: skip


def write_run(
    folder: Path, *, steps: int = 70, leave_out: tuple[str, ...] = (), skip_command: int = -1
) -> Path:
    """A run folder with bag and run.json. `leave_out`: topics; `skip_command`: a tick without a command."""
    m = Messages()
    folder.mkdir(parents=True, exist_ok=True)
    writer = BagWriter(folder / "bag", definitions=definitions(), min_free_bytes=0)
    for topic, type_name in TOPICS.items():
        if topic not in leave_out:
            writer.add_topic(TopicInfo(topic, type_name, transient_local=topic == "/learner/posterior"))
    sent = dict.fromkeys(TOPICS, 0)

    def put(topic: str, message: Any, at: float) -> None:
        if topic in leave_out:
            return
        sent[topic] += 1
        stamp = 1_700_000_000 * 10**9 + round(at * 1e9)
        writer.write(topic, m.bytes(message), log_time=stamp + 1000, publish_time=stamp, sequence=sent[topic])

    point = "geometry_msgs/msg/Point"
    rng = np.random.default_rng(0)
    for step in range(steps):
        t = 1.0 + step * DT
        put("/clock", m.make("rosgraph_msgs/msg/Clock", clock=m.time(t)), t)
        true, tip = positions(step), np.array([0.45 + 0.002 * step, 0.1])
        image = rng.integers(90, 110, (96, 96, 3), np.uint8)
        put(
            "/camera/image_raw",
            m.make(
                "sensor_msgs/msg/Image",
                header=m.header(t), height=96, width=96, encoding="rgb8", step=288, data=image.reshape(-1),
            ),
            t,
        )  # fmt: skip
        put("/sim/ground_truth", _truth(m, t, true, tip), t)
        if step == 10:
            put("/learner/posterior", _posterior(m, t, posterior(1)), t + 0.01)
        if step == steps - 5:
            put("/learner/posterior", _posterior(m, t, posterior()), t + 0.01)
            put("/learner/graph", _graph(m, t), t + 0.01)
        put("/learner/belief", _belief(m, t, true, tip), t + 0.02)
        put(
            "/learner/report",
            m.make(
                "crl_interfaces/msg/StepReport",
                header=m.header(t), step=step, perception_ms=12.0, update_ms=3.0, refresh_ms=1.0, surprise=2.0,
            ),
            t + 0.02,
        )  # fmt: skip
        gain = m.make(
            "crl_interfaces/msg/InformationGain", structure=5.0 / (1 + step), parameters=2.0, states=0.1
        )
        path = [m.make(point, x=tip[0] + 0.01 * h, y=tip[1], z=0.02) for h in range(11)]
        candidate = m.make(
            "crl_interfaces/msg/Candidate", label="push slot_1", score=1.0, gain=gain, path=path
        )
        put(
            "/planner/plan",
            m.make(
                "crl_interfaces/msg/Plan",
                header=m.header(t), policy="curious", chosen=candidate, plan_ms=20.0, swap_ms=0.5,
                posterior_version=1 + step // 35, provider="CPUExecutionProvider",
            ),
            t + 0.045,
        )  # fmt: skip
        if step != skip_command:
            command = m.make(
                "crl_interfaces/msg/Command", header=m.header(t), sequence=step, belief_stamp=m.time(t)
            )
            put("/planner/command", command, t + 0.05)
            put("/gate/executed", command, t + 0.051)
    counts = {topic: {"sent": count} for topic, count in sent.items()}
    writer.close({"crl_node.topics": json.dumps(counts)})
    facts = {
        "world": "four_cubes",
        "seed": 0,
        "policy": "curious",
        "seconds": steps * DT,
        "peak_memory_mb": {"learner": 321.0},
    }
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def _truth(m: Messages, t: float, true: np.ndarray, tip: np.ndarray) -> Any:
    objects = []
    for name, (x, y) in zip(NAMES, true, strict=True):
        position = m.make("geometry_msgs/msg/Point", x=x, y=y, z=0.03)
        objects.append(
            m.make(
                "crl_interfaces/msg/ObjectTruth",
                name=name,
                pose=m.make("geometry_msgs/msg/Pose", position=position),
            )
        )
    return m.make(
        "crl_interfaces/msg/GroundTruth",
        header=m.header(t),
        tip=m.make("geometry_msgs/msg/Point", x=tip[0], y=tip[1], z=0.02),
        objects=objects,
    )


def _belief(m: Messages, t: float, true: np.ndarray, tip: np.ndarray) -> Any:
    places = np.vstack([tip, true + [ERROR, 0.0]])
    slots = [
        m.make(
            "crl_interfaces/msg/Slot",
            id=i,
            mean=np.array([*place, 0.0, 0.0, 0.5]),
            covariance=(np.eye(5) * 1e-6).reshape(-1),
            colour=np.full(3, 0.5),
            extent=EXTENT,
            existence=1.0,
            visible=1.0,
        )
        for i, place in enumerate(places)
    ]
    return m.make("crl_interfaces/msg/Belief", header=m.header(t), slots=slots)


def _posterior(m: Messages, t: float, p: Posterior) -> Any:
    tensors = {
        name: np.ascontiguousarray(getattr(p, name)).reshape(-1)
        for name in (
            "slot_ids", "slot_extent", "term_kind", "term_target", "term_parent", "term_length", "term_probability",
            "weight_mean", "weight_variance", "weight_set_mean", "weight_sample", "particle_log_weight", "noise_std",
            "wall",
        )
    }  # fmt: skip
    return m.make(
        "crl_interfaces/msg/Posterior",
        header=m.header(t), version=p.version, step=p.step, hash=p.hash, dt=p.dt, slots=MAX_SLOTS,
        terms=PLANNER_TERMS, particles=PARTICLES, **tensors,
    )  # fmt: skip


def _graph(m: Messages, t: float) -> Any:
    """Right: action -> body and body -> every cube. Wrong: yellow -> body. One slot stands for nothing."""
    edges = [_edge(m, "action", "body.position", -2, 0, 0.99, TermKind.ACTION, -2, 0.0)]
    for i in range(1, 5):
        edges.append(_edge(m, "body", f"slot_{i}.position", 0, i, 0.9, TermKind.PUSH, 0, 0.05))
    edges.append(_edge(m, "slot_4", "body.position", 4, 0, 0.2, TermKind.PUSH, 4, 0.05))
    edges.append(_edge(m, "slot_9", "slot_1.position", 9, 1, 0.3, TermKind.PUSH, 9, 0.05))
    return m.make("crl_interfaces/msg/CausalGraph", header=m.header(t), posterior_version=3, edges=edges)


def _edge(
    m: Messages,
    cause: str,
    effect: str,
    cause_slot: int,
    effect_slot: int,
    p: float,
    kind: int,
    parent: int,
    length: float,
) -> Any:
    term = m.make("crl_interfaces/msg/Term", kind=int(kind), target=effect_slot, parent=parent, length=length)
    mechanism = m.make(
        "crl_interfaces/msg/Mechanism", term=term, probability=p, weight_mean=0.95, weight_std=0.02
    )
    return m.make(
        "crl_interfaces/msg/Edge",
        cause=cause, effect=effect, cause_slot=cause_slot, effect_slot=effect_slot, probability=p,
        mechanisms=[mechanism],
    )  # fmt: skip
