"""`crl robot check`: the rules of `arm/robot_check.py`, and with a running robot those of `arm/live_check.py`."""

from __future__ import annotations

import os

from crl_node.arm.live_check import Observation, check_live
from crl_node.arm.profile import DescriptionNeededError, load_profile
from crl_node.arm.robot_check import Findings, check_profile
from crl_node.calibration import load_calibration
from crl_node.parameter_spec import ParameterError
from crl_node.yaml_fields import CameraError


def check(
    name: str, *, live: bool, seconds: float, overrides: dict[str, str], domain_id: int | None = None
) -> Findings:
    """All findings. `overrides`: joint, image, info, command and description topic instead of the profile's."""
    description: str | None = None
    seen: Observation | None = None
    if live:
        seen = _listen(name, seconds, overrides, domain_id)
        description = seen.description
    profile, findings = check_profile(name, description)
    if seen is None or profile is None:
        return findings
    try:
        calibration = load_calibration(profile.camera.calibration)
    except CameraError:
        return findings  # the profile's findings say it
    findings.entries += check_live(profile, calibration, seen).entries
    return findings


def refusal(name: str) -> str:
    """Why this profile must not be run, told in sentences; nothing when nothing must be mended.

    One whose URDF comes from a topic cannot be judged without the robot: its nodes refuse what they cannot use.
    """
    try:
        load_profile(name)
    except DescriptionNeededError:
        return ""
    except ValueError:
        pass  # the findings say it
    _, findings = check_profile(name)
    return "; ".join(f"{entry.subject}: {entry.sentence}" for entry in findings.entries if entry.must_be_mended)


def _listen(name: str, seconds: float, overrides: dict[str, str], domain_id: int | None) -> Observation:
    try:
        from crl_node.nodes.robot_observer import observe
    except ImportError as error:
        raise ParameterError(f"--live needs ROS: {error} ('crl doctor')") from error
    topics = {
        "joint": "joint_states",
        "image": "camera/image_raw",
        "info": "camera/camera_info",
        "command": "arm_controller/joint_trajectory",
        "description": "robot_description",
    }
    try:
        profile = load_profile(name)
    except DescriptionNeededError as needed:
        topics["description"] = needed.topic
        topics |= _topics_of(name, seconds, needed.topic, domain_id)
    except ValueError:
        pass  # its own findings say it
    else:
        topics |= {
            "joint": profile.joint_states.topic,
            "image": profile.camera.image_topic,
            "info": profile.camera.info_topic,
            "command": profile.controller.topic,
        }
    topics |= {key: topic for key, topic in overrides.items() if topic}
    if domain_id is None and os.environ.get("ROS_DOMAIN_ID", "").isdigit():
        domain_id = int(os.environ["ROS_DOMAIN_ID"])
    return observe(topics, seconds=seconds, domain_id=domain_id)


def _topics_of(name: str, seconds: float, topic: str, domain_id: int | None) -> dict[str, str]:
    """The profile's topics, known once its URDF was heard."""
    from crl_node.nodes.robot_profile import hear

    text = hear(topic, int(os.environ.get("ROS_DOMAIN_ID", "0")) if domain_id is None else domain_id, seconds)
    if text is None:
        return {}
    profile = load_profile(name, text)
    return {
        "joint": profile.joint_states.topic,
        "image": profile.camera.image_topic,
        "info": profile.camera.info_topic,
        "command": profile.controller.topic,
    }
