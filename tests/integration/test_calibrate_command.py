"""`crl robot calibrate` to its end: gate and calibrator as nodes, against the mock's true camera."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from crl_node.arm.hand_eye import compare
from crl_node.calibration import load_calibration
from crl_node.paths import share

#: The lens is known; the camera stands 7 cm and 5 degrees from where its file has it.
SIZE = {"camera_width": 200, "camera_height": 200}
LENS = {**SIZE, "camera_fov": 0.62, "period": 0.1, "table": [0.12, 0.36, -0.16, 0.16]}
TRUE = {**LENS, "camera_eye": [0.64, -0.05, 0.54], "camera_target": [0.24, 0.02, 0.0]}
BELIEVED = {**LENS, "camera_eye": [0.60, 0.0, 0.52], "camera_target": [0.245, 0.0, 0.0]}


@pytest.mark.ros
@pytest.mark.slow
def test_the_command_finds_the_mocks_camera(tmp_path: Path) -> None:
    for name, content in (("true", TRUE), ("believed", BELIEVED)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    parameters = {"mock": {"ros__parameters": {"camera": str(tmp_path / "true.yaml")}}}
    (tmp_path / "parameters.yaml").write_text(yaml.safe_dump(parameters))
    command = [sys.executable, "-m", "crl_node.cli", "robot", "calibrate", "so101", "--mock", "--columns", "2"]
    command += ["--camera", str(tmp_path / "believed.yaml"), "--params-file", str(tmp_path / "parameters.yaml")]
    result = subprocess.run(
        [*command, "--out", str(tmp_path / "run")],
        capture_output=True, text=True, check=False, cwd=share(), env=dict(os.environ), timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    found, true = load_calibration(tmp_path / "run" / "camera.yaml"), load_calibration(tmp_path / "true.yaml")
    believed = load_calibration(tmp_path / "believed.yaml")
    distance, angle = compare(found.camera, true.camera)
    before, turned = compare(believed.camera, true.camera)
    print(
        f"camera {distance * 1e3:.2f} mm, {np.degrees(angle):.3f} degrees from the truth (before: "
        f"{before * 1e3:.0f} mm, {np.degrees(turned):.1f}); its own estimate {found.uncertainty}\n{result.stdout}"
    )
    assert distance < 0.010 and angle < np.radians(0.7)
    assert distance < 5 * found.uncertainty["position_m"] + 0.003
    assert before > 0.05
