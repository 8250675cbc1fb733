"""Long campaigns against everything that takes input: `crl bench faults`. The tests run a small share of the same code.

The same seed gives the same campaign; `crl bench faults` runs them one after the other and writes what is done so far
into its JSON after each, so that an interrupted run is not lost.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from crl_node.arm.commander import TipCommander
from crl_node.arm.gate import Gate
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command
from crl_node.curiosity.assembly import default_model
from crl_node.curiosity.session import PlanSession
from crl_node.export.onnx_model import load, seal, verify, write_atomically
from crl_node.quarantine import Quarantine, QuarantineError
from crl_node.world_model import WorldModel

Say = Callable[[str], None]
HOSTILE = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0, -0.0, 1e6, np.pi, 1e-9])


# -- inputs to the gate -----------------------------------------------------------------------------------------------


class GateCampaign:
    """Generated commands and joint states, tame, spoiled and senseless, and what the gate lets out."""

    def __init__(self, seed: int) -> None:
        self.profile = load_profile("iiwa_sim")
        self.arm = Arm(self.profile)
        self.rng = np.random.default_rng(seed)
        self.names = self.profile.joint_names
        self.start = self.arm.solve(np.array([0.6, 0.0, 0.02]), self.arm.home)
        commander = TipCommander(self.profile, self.arm)
        self.good = []
        for angle in np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False):
            commander.reset(self.profile.named(self.start), 0.0)
            velocity = 0.2 * np.array([np.cos(angle), np.sin(angle)])
            at_rest = dict.fromkeys(self.names, 0.0)
            self.good.append(commander.chunk(self.profile.named(self.start), at_rest, velocity, start=0.0))
        self.counts: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.unsafe: list[str] = []
        self.now = 100.0
        self._new_gate()

    def _new_gate(self) -> None:
        self.gate = Gate(self.profile, self.arm, latency=float(self.rng.choice((0.0, 0.05))))
        self.gate.observe(self.now, self.names, self.start, np.zeros(7))

    def run(self, inputs: int, say: Say = lambda text: None) -> dict[str, Any]:
        """`inputs` of them; the counts, and sentences about what must not have left the gate."""
        begin = said = time.monotonic()
        for number in range(inputs):
            self.step()
            if time.monotonic() - said > 10.0:
                said = time.monotonic()
                say(f"{number + 1} of {inputs} inputs to the gate, {len(self.unsafe)} unsafe outputs")
        return {
            "inputs": inputs, "unsafe": len(self.unsafe), "examples": self.unsafe[:5], **self.counts,
            "rejected": dict(self.rejected.most_common()), "seconds": round(time.monotonic() - begin, 1),
        }  # fmt: skip

    def step(self) -> None:
        """One input."""
        rng = self.rng
        kind = rng.random()
        self.now += float(rng.choice((0.0, 0.005, 0.02)))
        if kind < 0.60:
            self._judge(self._command())
        elif kind < 0.97:
            self.counts["joint_states"] += 1
            good = rng.random() < 0.8
            self.gate.observe(*self._joints(good))
        elif kind < 0.975:
            self.gate.latch("campaign")
            self.counts["stops"] += 1
        else:
            self.gate.reset()
            if rng.random() < 0.3:
                self._new_gate()
        if rng.random() < 0.05:
            self._check(self.gate.hold(self.now))

    def _judge(self, command: Command) -> None:
        self.counts["commands"] += 1
        stopped = bool(self.gate.estop)
        with np.errstate(all="ignore"):
            verdict = self.gate.judge(command, self.now)
        self.counts["accepted"] += verdict.accepted
        if not verdict.accepted:
            self.rejected[verdict.reason] += 1
        self._check(verdict.executed)
        if stopped and not verdict.executed.hold:
            self.unsafe.append("motion during an emergency stop")

    def _check(self, executed: Command) -> None:
        """What goes over the wire: finite, by name, at rest at the end, inside the limits."""
        self._check_one(executed)
        if executed.trajectory is not None and self.gate.outgoing is not None:  # with what is under way before it
            sent = self.gate.outgoing[1]
            if not sent.is_finite or sent.joint_names != self.names or not sent.ends_at_rest or sent.duration > 0.4:
                self.unsafe.append("a message to the controller of wrong joints, too long or not at rest at its end")
            elif not (sent.max_velocity() <= self.profile.limits.velocity * (1 + 1e-5)).all():
                self.unsafe.append("a message to the controller beyond the limits")

    def _check_one(self, executed: Command) -> None:
        numbers = (executed.stamp, executed.belief_stamp, executed.duration, executed.ramp, *executed.velocity)
        if not np.isfinite(numbers).all():
            self.unsafe.append(f"a command with the numbers {numbers}")
        trajectory = executed.trajectory
        if trajectory is None:
            self.counts["without_trajectory"] += 1
            return
        limits = self.profile.limits
        if not trajectory.is_finite:
            self.unsafe.append("a trajectory that is not finite")
        elif trajectory.joint_names != self.names or not trajectory.ends_at_rest or trajectory.duration > 0.2 + 1e-6:
            self.unsafe.append("a trajectory of wrong joints, too long or not at rest at its end")
        else:
            low, high = trajectory.position_range()
            inside = (low >= limits.lower - 1e-9).all() and (high <= limits.upper + 1e-9).all()
            slow = (trajectory.max_velocity() <= limits.velocity * (1 + 1e-5)).all()
            if not (inside and slow):
                self.unsafe.append("a trajectory beyond the limits")

    def _command(self) -> Command:
        rng = self.rng
        chunk = self.good[int(rng.integers(len(self.good)))]
        stamp = self.now + float(rng.choice((0.0, 0.0, 0.03, -0.2, 1.0)))
        command = Command(stamp, 1, stamp, 1, bool(rng.random() < 0.1), chunk.velocity, 0.1, 0.1, chunk.trajectory)
        if rng.random() < 0.25:
            return command
        parts = {f: getattr(chunk.trajectory, f).copy() for f in ("times", "positions", "velocities")}
        names = list(self.names)
        for _ in range(int(rng.integers(1, 4))):
            what = int(rng.integers(7))
            if what < 3:
                array = parts[("times", "positions", "velocities")[what]]
                array.flat[int(rng.integers(array.size))] = rng.choice(HOSTILE)
            elif what == 3:
                names[int(rng.integers(7))] = str(rng.choice(("elbow", "", self.names[0])))
            elif what == 4:
                field = str(rng.choice(("stamp", "belief_stamp", "duration", "ramp")))
                command = replace(command, **{field: float(rng.choice(HOSTILE))})
            elif what == 5:
                command = replace(command, velocity=rng.choice(HOSTILE, 2))
            else:
                parts["positions"] += rng.normal(0.0, 0.05, parts["positions"].shape)
        if rng.random() < 0.05:
            return replace(command, trajectory=None)
        return replace(command, trajectory=JointTrajectory(tuple(names), **parts))

    def _joints(self, good: bool) -> tuple[float, list[str], np.ndarray, np.ndarray]:
        rng = self.rng
        order = rng.permutation(7)
        names, q, dq = [self.names[i] for i in order], self.start[order].copy(), np.zeros(7)
        if good:
            return self.now, names, q, dq
        stamp = self.now + float(rng.choice((0.0, 0.0, 0.0, 0.0, -0.1, 0.3, -50.0, 50.0)))
        q[int(rng.integers(7))] = rng.choice(HOSTILE)
        dq[int(rng.integers(7))] = rng.choice(HOSTILE)
        if rng.random() < 0.3:
            names[int(rng.integers(7))] = "elbow"
        return stamp, names, q[: int(rng.integers(8))] if rng.random() < 0.2 else q, dq


# -- mutants of files -------------------------------------------------------------------------------------------------


def mutated_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, flipped, overwritten, repeated or emptied."""
    kind, size = int(rng.integers(6)), len(data)
    changed = bytearray(data)
    if kind == 0:
        return data[: int(rng.integers(size))]
    if kind == 1:
        for position in rng.integers(0, size, int(rng.integers(1, 64))):
            changed[position] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        begin = int(rng.integers(size))
        changed[begin : begin + int(rng.integers(1, 4096))] = rng.bytes(int(rng.integers(1, 4096)))
    elif kind == 3:
        begin, length = int(rng.integers(size)), int(rng.integers(1, 4096))
        changed[begin:begin] = changed[begin : begin + length]
    elif kind == 4:
        changed[: int(rng.integers(1, 256))] = bytes(int(rng.integers(1, 256)))
    else:
        begin = int(rng.integers(size))
        del changed[begin : begin + int(rng.integers(1, 4096))]
    return bytes(changed)


def forged_model(data: bytes, rng: np.random.Generator) -> bytes:
    """A model with something wrong inside and a hash that is right: what a hostile author would send."""
    model = onnx.load_model_from_string(data)
    nodes, tensors = model.graph.node, model.graph.initializer
    kind = int(rng.integers(9))
    node, tensor = nodes[int(rng.integers(len(nodes)))], tensors[int(rng.integers(len(tensors)))]
    if kind == 0:
        node.op_type = str(rng.choice(("Loop", "Conv", "MatMul", "Nonsense", "Gather")))
    elif kind == 1:
        node.domain = "com.evil"
    elif kind == 2:
        tensor.dims[:] = [2**40]
    elif kind == 3:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
    elif kind == 4:
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    elif kind == 5 and node.input:
        node.input[0] = node.output[0]  # a circle
    elif kind == 6:
        del nodes[int(rng.integers(len(nodes)))]
    elif kind == 7:
        entry = next(e for e in model.metadata_props if e.key == "shape")
        entry.value = entry.value.replace("64", str(rng.choice((0, -1, 10**9))))
    else:
        tensor.raw_data = np.full(len(tensor.raw_data) // 4, np.nan, np.float32).tobytes()
    return seal(model)


def mutants(
    count: int, *, seed: int, forged: float = 0.1, checkpoints: float = 0.5, say: Say = lambda text: None
) -> dict[str, Any]:
    """`count` damaged and forged files, opened as the nodes open them, while an old model serves in this process."""
    rng = np.random.default_rng(seed)
    original = default_model().read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.npz"
        WorldModel(seed=3).save(path)
        checkpoint = path.read_bytes()
    serving = PlanSession(default_model(), provider="cpu")
    before = serving.warm()
    counts: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    begin = said = time.monotonic()
    with Quarantine() as quarantine:
        for number in range(count):
            kind = "checkpoint" if rng.random() < checkpoints else "model"
            if kind == "model" and rng.random() < forged / max(1.0 - checkpoints, 1e-9):
                data = forged_model(original, rng)
                counts["forged"] += 1
            else:
                data = mutated_bytes(checkpoint if kind == "checkpoint" else original, rng)
            try:
                quarantine.examine(data, kind)
                counts["harmless"] += 1  # the damage is where it does not matter, or the model is a valid other one
            except QuarantineError as error:
                counts["refused"] += 1
                died = "was killed by" in str(error) or "no answer" in str(error) or "longer than" in str(error)
                counts["child_died"] += died
                problems[str(error).split(": ", 2)[-1][:50] if died else str(error).split(": ")[1][:40]] += 1
            if (number + 1) % 50 == 0 or number + 1 == count:
                after = serving.warm()
                same = all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)
                counts["old_model_served"] += same
                counts["old_model_asked"] += 1
            if time.monotonic() - said > 10.0:
                said = time.monotonic()
                say(f"{number + 1} of {count} mutants: {dict(counts)}")
    return {
        "mutants": count, **counts, "kinds": dict(problems.most_common(12)),
        "seconds": round(time.monotonic() - begin, 1),
    }  # fmt: skip


# -- kill -9 while files are written ----------------------------------------------------------------------------------


def _write_models(path: Path) -> None:
    data, info = load(default_model())
    model = onnx.load_model_from_string(data)
    del info
    sealed = seal(model)
    while True:
        write_atomically(sealed, path)


def _write_checkpoints(path: Path) -> None:
    model = WorldModel(seed=3)
    while True:
        model.step += 1
        model._dirty = True
        model.save(path)


def kills(count: int, *, seed: int, say: Say = lambda text: None) -> dict[str, Any]:
    """`count` writers of exports and checkpoints in turn, killed at random moments; the file is opened each time."""
    rng = np.random.default_rng(seed)
    loadable: Counter[str] = Counter()
    begin = said = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        files = {"export": Path(folder) / "model.onnx", "checkpoint": Path(folder) / "checkpoint.npz"}
        files["export"].write_bytes(default_model().read_bytes())
        WorldModel(seed=3).save(files["checkpoint"])
        for number in range(count):
            what = "export" if number % 2 else "checkpoint"
            pid = os.fork()
            if pid == 0:
                try:
                    (_write_models if what == "export" else _write_checkpoints)(files[what])
                finally:
                    os._exit(1)
            time.sleep(float(rng.uniform(0.02, 0.4)))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if not os.WIFSIGNALED(status):
                raise RuntimeError(f"the writer of the {what} ended by itself with status {status}")
            if what == "export":
                verify(files[what])
            else:
                WorldModel.load(files[what])
            loadable[what] += 1
            if time.monotonic() - said > 10.0:
                said = time.monotonic()
                say(f"{number + 1} of {count} kills, all files whole")
        left = sum(1 for path in Path(folder).iterdir() if path not in files.values())
    return {
        "kills": count, "loadable": sum(loadable.values()), **loadable, "partial_files_left": left,
        "seconds": round(time.monotonic() - begin, 1),
    }  # fmt: skip
