"""What is missing or does not match, in plain words, before anything moves: the rules of `crl robot check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from crl_node.arm.commander import TipCommander
from crl_node.arm.gate import Gate
from crl_node.arm.kinematics import Arm, UnreachableError
from crl_node.arm.profile import DescriptionNeededError, ProfileError, load_profile, profile_path
from crl_node.arm.profile_types import RobotProfile
from crl_node.calibration import Calibration, load_calibration
from crl_node.command import Command
from crl_node.yaml_fields import CameraError

#: The tip is this close to where it was asked to be, everywhere in the workspace, m.
REACH_BOUND = 1e-4
#: Points of the grid along x, y and z.
GRID = (6, 5, 3)
_PLACES = GRID[0] * GRID[1] * GRID[2]
#: Commands of the dry run, and after how many the direction changes.
_DRY_RUN, _TURN = 80, 8


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    ok: bool
    subject: str  # a word: joints, units, camera, ...
    sentence: str
    warning: bool = False  # not ok, but it can run

    @property
    def must_be_mended(self) -> bool:
        """It is not ok, and cannot run so."""
        return not self.ok and not self.warning


@dataclass
class Findings:
    """All of them, in order."""

    entries: list[Finding] = field(default_factory=list)

    def good(self, subject: str, sentence: str) -> None:
        """Note what is well."""
        self.entries.append(Finding(True, subject, sentence))

    def bad(self, subject: str, sentence: str) -> None:
        """Note what must be mended."""
        self.entries.append(Finding(False, subject, sentence))

    def warn(self, subject: str, sentence: str) -> None:
        """Note what may be wrong."""
        self.entries.append(Finding(False, subject, sentence, warning=True))

    @property
    def errors(self) -> int:
        """How many must be mended."""
        return sum(entry.must_be_mended for entry in self.entries)


def check_profile(name: str, description: str | None = None) -> tuple[RobotProfile | None, Findings]:
    """Everything that can be known without the robot. The profile is None when it cannot be read at all."""
    findings = Findings()
    try:
        for sentence in suspicious_units(profile_path(name)):
            findings.bad("units", sentence)
        profile = load_profile(name, description)
    except DescriptionNeededError as error:
        findings.bad("urdf", f"{error}; `--live` listens to it")
        return None, findings
    except ProfileError as error:
        findings.bad("profile", str(error))
        return None, findings
    findings.good("profile", f"'{profile.name}': {len(profile.joint_names)} joints, URDF {profile.urdf}")
    _check_limits(profile, findings)
    arm = Arm(profile)
    _check_reach(profile, arm, findings)
    _check_dry_run(profile, arm, findings)
    _check_rates(profile, findings)
    if not profile.self_filter:
        findings.warn("self filter", "no capsules: the arm in the picture will be taken for a thing")
    try:
        calibration = load_calibration(profile.camera.calibration)
    except CameraError as error:
        findings.bad("camera", str(error))
    else:
        _check_camera(profile, calibration, findings)
    return profile, findings


def suspicious_units(path: Path) -> list[str]:
    """Numbers that look like degrees or millimetres; nothing when the file cannot be read (others say so)."""
    try:
        content = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return []
    found: list[str] = []

    def note(value: object, limit: float, say: Callable[[float], str]) -> None:
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            if isinstance(number, int | float) and abs(number) > limit:
                found.append(say(float(number)))

    joints = content.get("joints") if isinstance(content, CommentedMap) else None
    for joint, values in joints.items() if isinstance(joints, CommentedMap) else ():
        for key in ("home", "position", "velocity"):
            if isinstance(values, CommentedMap) and key in values:
                line = values.lc.key(key)[0] + 1
                # Nothing that an arm here does is faster than 10 rad/s.
                limit = 10.0 if key == "velocity" else 6.3

                def degrees(number: float, place: str = f"{path}:{line}: joints.{joint}.{key}") -> str:
                    return (
                        f"{place} is {number:g}, which looks like degrees; {number:g} degrees are "
                        f"{np.radians(number):.4f} rad"
                    )

                note(values[key], limit, degrees)
    box = content.get("workspace") if isinstance(content, CommentedMap) else None
    for axis, values in box.items() if isinstance(box, CommentedMap) else ():
        assert isinstance(box, CommentedMap)
        line = box.lc.key(axis)[0] + 1

        def millimetres(number: float, place: str = f"{path}:{line}: workspace.{axis}") -> str:
            return f"{place} is {number:g}, which looks like millimetres; {number:g} mm are {number / 1000:g} m"

        note(values, 5.0, millimetres)
    return found


def _check_limits(profile: RobotProfile, findings: Findings) -> None:
    full = [
        name
        for name, fastest in zip(profile.joint_names, profile.limits.velocity, strict=True)
        if fastest >= profile.urdf_limits[name][2]
    ]
    if full:
        findings.warn("limits", f"as fast as the URDF allows: {', '.join(full)}; give `velocity` to be slower")
    else:
        findings.good("limits", "every joint is slower and its range narrower than the URDF's")


def reach_errors(profile: RobotProfile, arm: Arm) -> tuple[float, float, list[str]]:
    """Largest error m of the tip over a grid of the workspace, least room rad to a limit, and what was not reached."""
    box = profile.workspace
    worst, room, missing = 0.0, np.inf, []
    axes = [np.linspace(low, high, count) for (low, high), count in zip((box.x, box.y, box.z), GRID, strict=True)]
    middle = np.array([np.mean(box.x), np.mean(box.y), profile.tip_height])
    try:
        seed = arm.solve(middle, arm.home, iterations=200)
    except UnreachableError as error:
        return np.inf, 0.0, [str(error)]
    for place in np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3):
        try:
            q = arm.solve(place, seed, iterations=200)
        except UnreachableError as error:
            missing.append(str(error))
            continue
        worst = max(worst, float(np.linalg.norm(arm.tip_at(q) - place)))
        room = min(room, float(np.minimum(q - profile.limits.lower, profile.limits.upper - q).min()))
    return worst, room, missing


def _check_reach(profile: RobotProfile, arm: Arm, findings: Findings) -> None:
    worst, room, missing = reach_errors(profile, arm)
    if missing:
        findings.bad("workspace", f"{len(missing)} of {_PLACES} places cannot be reached; the first: {missing[0]}")
    elif worst > REACH_BOUND or room < 0:
        most = f"at most {REACH_BOUND * 1e3:g} mm"
        findings.bad("workspace", f"the tip misses its place by up to {worst * 1e3:.3f} mm, {most}")
    else:
        findings.good(
            "workspace",
            f"all {_PLACES} places of a grid are reached within {worst * 1e3:.4f} mm, {room:.2f} rad or more from "
            "every limit",
        )
    tip, box = arm.tip_at(arm.home), profile.workspace
    outside = float(np.maximum(box.low - tip, tip - box.high).max())
    place = ", ".join(f"{value:.3f}" for value in tip)
    if outside > 1e-3:
        findings.warn("home", f"the tip at home ([{place}] m) is {outside * 1e3:.0f} mm outside the workspace")
    else:
        findings.good("home", f"the tip at home is at [{place}] m, in the workspace")


def _check_dry_run(profile: RobotProfile, arm: Arm, findings: Findings) -> None:
    """Commands in all directions at full speed, as the planner asks for them, through the gate's own rules."""
    commander, gate = TipCommander(profile, arm), Gate(profile, arm)
    rng = np.random.default_rng(0)
    q, dq, velocity = arm.home, np.zeros_like(arm.home), np.zeros(2)
    commander.reset(profile.named(q))
    refused: list[str] = []
    for k in range(_DRY_RUN):
        now = k * profile.command_duration
        if k % _TURN == 0:
            angle = rng.uniform(0, 2 * np.pi)
            velocity = profile.max_tip_speed * np.array([np.cos(angle), np.sin(angle)])
        gate.observe(now, profile.joint_names, q.tolist(), dq.tolist())
        try:
            chunk = commander.chunk(profile.named(q), profile.named(dq), velocity, start=now)
        except (ValueError, UnreachableError) as error:
            findings.bad("motion", f"at full speed no command can be made: {error}")
            return
        command = Command(
            now, k, now, 0, False, chunk.velocity, profile.command_duration, profile.command_ramp, chunk.trajectory
        )
        verdict = gate.judge(command, now)
        executed = verdict.executed.trajectory
        if not verdict.accepted and executed is not None:
            refused.append(verdict.sentence)
            commander.adopt(executed, now)
        if executed is not None:
            q, dq = executed.sample(profile.command_duration)
    if refused:
        findings.warn(
            "motion",
            f"{len(refused)} of {_DRY_RUN} commands at full tip speed would be refused ({refused[0]}): lower "
            "max_tip_speed or max_tip_acceleration",
        )
    else:
        findings.good("motion", f"{_DRY_RUN} commands at full tip speed in all directions pass the gate")


def _check_rates(profile: RobotProfile, findings: Findings) -> None:
    age, rate = profile.watchdog.joint_states, profile.joint_states.rate
    if age < 2.0 / rate:
        findings.bad(
            "rates",
            f"watchdog.joint_states is {age:g} s, but at {rate:g} Hz joint states come every {1 / rate:.3f} s: the "
            "gate would hold all the time",
        )


def _check_camera(profile: RobotProfile, calibration: Calibration, findings: Findings) -> None:
    outside = calibration.corners_outside()
    if outside:
        corners = ", ".join(f"[{x:g}, {y:g}]" for x, y in outside)
        findings.bad("camera", f"{calibration.path}: the camera does not see the table's corners {corners} m")
    x0, x1, y0, y1 = calibration.table
    box = profile.workspace
    width = min(box.x[1], x1) - max(box.x[0], x0)
    depth = min(box.y[1], y1) - max(box.y[0], y0)
    if width <= 0 or depth <= 0:
        findings.bad(
            "camera",
            f"workspace (x {list(box.x)}, y {list(box.y)}) and table (x {[x0, x1]}, y {[y0, y1]} m of "
            f"{calibration.path}) have no place in common",
        )
    if not outside and width > 0 and depth > 0:
        camera = calibration.camera
        note = f", reprojection {calibration.uncertainty['reprojection_px']:.2f} px" if calibration.uncertainty else ""
        findings.good(
            "camera", f"{camera.width}x{camera.height} every {calibration.period:g} s sees the whole table{note}"
        )
