"""`crl robot …`: profiles of arms, what is wrong with them, running on them, calibrating their cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crl_node.cli.exits import USAGE_ERROR
from crl_node.curiosity.names import POLICIES

console = Console()
errors = Console(stderr=True)
robot_app = typer.Typer(no_args_is_help=True, help="Arms: list, check, run and calibrate them.")

Profile = Annotated[str, typer.Argument(metavar="PROFILE", help="A profile of config/robots by name, or your file.")]
Mock = Annotated[
    bool, typer.Option("--mock", help="A node stands for arm, controller and camera: nothing real is moved.")
]


@robot_app.command("list")
def robot_list() -> None:
    """List the shipped profiles."""
    from crl_node.arm.profile import ProfileError, load_profile, profile_names

    table = Table("profile", "robot", "joints", "controller", "workspace (m)", "URDF", box=None)
    for name in profile_names():
        try:
            profile = load_profile(name)
        except ProfileError as error:
            table.add_row(name, "–", "–", "–", "–", f"[red]{escape(str(error))}[/]")
            continue
        box = profile.workspace
        table.add_row(
            name,
            profile.name,
            str(len(profile.joint_names)),
            profile.controller.type,
            f"x {box.x[0]:g}…{box.x[1]:g}, y {box.y[0]:g}…{box.y[1]:g}",
            profile.urdf.name,
        )
    console.print(table)


@robot_app.command("check")
def robot_check(
    profile: Profile,
    live: Annotated[bool, typer.Option("--live", help="Listen to the running robot too; nothing is sent.")] = False,
    seconds: Annotated[float, typer.Option(min=0.5, max=60.0, help="How long to listen.")] = 3.0,
    image_topic: Annotated[str, typer.Option(help="Instead of the profile's.")] = "",
    joint_states_topic: Annotated[str, typer.Option(help="Instead of the profile's.")] = "",
    controller_topic: Annotated[str, typer.Option(help="Instead of the profile's.")] = "",
) -> None:
    """Say in plain words what is missing or does not match, before anything moves.

    Exit code 0 when nothing must be mended, else 2.
    """
    from crl_node.robot_checking import check

    overrides = {"image": image_topic, "joint": joint_states_topic, "command": controller_topic}
    findings = check(profile, live=live, seconds=seconds, overrides=overrides)
    for entry in findings.entries:
        mark = "[green]✓[/]" if entry.ok else "[yellow]![/]" if entry.warning else "[red]✗[/]"
        console.print(f"{mark} [bold]{entry.subject}[/]: {escape(entry.sentence)}", highlight=False, soft_wrap=True)
    if findings.errors:
        console.print(f"{findings.errors} to mend before this arm may move.", style="red")
        raise typer.Exit(USAGE_ERROR)
    console.print("ready" + ("" if live else "; with the robot running: the same with --live"), style="green")


@robot_app.command("calibrate")
def robot_calibrate(
    profile: Profile,
    mock: Mock = False,
    write: Annotated[Path | None, typer.Option(help="The camera's file; default: camera.yaml in --out.")] = None,
    touch: Annotated[
        float, typer.Option(min=0.0, max=0.1, help="Feel for the table this far (m) below where it should be; 0: not.")
    ] = 0.0,
    focal: Annotated[bool, typer.Option("--focal", help="Find the focal length too.")] = False,
    columns: Annotated[int, typer.Option(min=2, max=20, help="Places along x and y, at three heights.")] = 4,
    camera: Annotated[str, typer.Option(metavar="NAME|FILE", help="Lens and table; default: the profile's.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of logs and measurements.")] = None,
    params_file: Annotated[Path | None, typer.Option(help="ROS params file; wins over everything else.")] = None,
    namespace: Annotated[str, typer.Option(help="ROS namespace of our nodes.")] = "",
) -> None:
    """Find out where the camera and the table are, by moving the arm in view. The arm moves, through the gate.

    The profile's `marker`, a ball of one colour, must be on the tool, and nothing on the table.
    """
    from datetime import datetime

    from crl_node.arm.hand_eye import CalibrationFailedError
    from crl_node.parameter_spec import ParameterError
    from crl_node.robot_calibration import CalibrationSession, calibrate, plane_line, probing_profile
    from crl_node.supervisor import NodeFailedError
    from crl_node.system import RobotOptions

    folder = out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}_{Path(profile).stem}_calibration"
    moved = str(probing_profile(profile, touch, folder).absolute()) if touch > 0 else profile
    options = RobotOptions(
        robot=moved, mock=mock, out=folder, camera=camera, seconds=1.0,
        mock_parameters={"draw_marker": True, "things": 0},
    )  # fmt: skip
    session = CalibrationSession(options, namespace=namespace, params_file=params_file, touch=touch, columns=columns)
    written = write or folder / "camera.yaml"

    def tell(text: str) -> None:
        console.print(escape(text), soft_wrap=True)

    try:
        result = calibrate(session, profile, written, fit_focal=focal, on_event=tell)
    except (CalibrationFailedError, NodeFailedError) as error:
        raise ParameterError(str(error)) from error
    estimate, plane = result.camera, result.plane
    for sentence in result.missed:
        console.print(f"left out: {escape(sentence)}", style="yellow", soft_wrap=True)
    console.print(
        f"camera from {estimate.poses} places: reprojection {estimate.reprojection:.2f} px, place +- "
        f"{estimate.position_sigma * 1e3:.1f} mm, direction +- {estimate.angle_sigma * 57.2958:.2f} degrees",
        soft_wrap=True,
    )
    if plane is not None:
        console.print(
            f"table from {plane.touches} touches: height +- {plane.height_sigma * 1e3:.2f} mm, residual "
            f"{plane.residual * 1e3:.2f} mm; put this into the profile:\n{plane_line(plane)}",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
    tell(f"written: {result.written}; name it in the profile's camera.calibration")


@robot_app.command("run")
def robot_run(
    profile: Profile,
    mock: Mock = False,
    seconds: Annotated[float, typer.Option("--seconds", "-t", min=0.0, help="0 goes on until Ctrl-C.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", "-s", min=0, max=2**31 - 1, help="Of learner and planner.")] = 0,
    policy: Annotated[str, typer.Option("--policy", "-p", help=f"{', '.join(POLICIES)}.")] = "curious",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run; a new one in runs/.")] = None,
    camera: Annotated[str, typer.Option(metavar="NAME|FILE", help="Calibration instead of the profile's.")] = "",
    image_topic: Annotated[str, typer.Option(help="Instead of the profile's.")] = "",
    joint_states_topic: Annotated[str, typer.Option(help="Instead of the profile's.")] = "",
    controller_topic: Annotated[str, typer.Option(help="Instead of the profile's.")] = "",
    autostart: Annotated[
        bool, typer.Option("--autostart/--no-autostart", help="Without it nothing moves before /manager/startup.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Run a profile that `crl robot check` finds fault with.")
    ] = False,
    params_file: Annotated[Path | None, typer.Option(help="ROS params file; wins over everything else.")] = None,
    namespace: Annotated[str, typer.Option(help="ROS namespace of our nodes.")] = "",
    log_level: Annotated[str, typer.Option(help="debug, info, warn or error.")] = "info",
) -> None:
    """Run the curious arm on a robot, or on a mock of it.

    Check first: `crl robot check PROFILE --live`; a profile with something to mend is not run without --force. Nothing
    moves before the gate is active, every command goes through the gate, and Ctrl-C stops the arm before anything else
    ends. Keep a hand on the hardware stop.
    """
    from datetime import datetime

    from crl_node.cli.run import run_robot
    from crl_node.parameter_spec import ParameterError
    from crl_node.robot_checking import refusal
    from crl_node.robot_session import RobotSession
    from crl_node.system import RobotOptions

    folder = out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}_{Path(profile).stem}_{'mock' if mock else 'robot'}"
    options = RobotOptions(
        robot=profile,
        mock=mock,
        seconds=seconds,
        seed=seed,
        policy=policy,
        out=folder,
        camera=camera,
        image_topic=image_topic,
        joint_states_topic=joint_states_topic,
        controller_topic=controller_topic,
        autostart=autostart,
    )
    problem = refusal(profile)
    if problem and not force:
        raise ParameterError(f"'{profile}' is not run: {problem}. Mend it (`crl robot check`), or give --force")
    if problem:
        errors.print(f"run by --force although: {escape(problem)}", style="yellow", soft_wrap=True)
    session = RobotSession(options, namespace=namespace, params_file=params_file, log_level=log_level)
    raise typer.Exit(run_robot(session, console, errors))
