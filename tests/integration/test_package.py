"""The package is complete: build files, data, executables and pinned requirements agree with each other."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from crl_node import __version__
from crl_node.nodes.__main__ import NAMES
from crl_node.parameter_spec import load_specs
from crl_node.paths import share

ROOT = share()
source_tree = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not run from the source tree")


@pytest.mark.parametrize("name", NAMES)
def test_every_node_has_a_module_with_main_a_parameter_file_and_an_executable(name: str) -> None:
    module = importlib.import_module(f"crl_node.nodes.{name}")
    assert callable(module.main)
    assert load_specs(name) is not None
    if (ROOT / "executables").is_dir():
        assert (ROOT / "executables" / name).exists()


@source_tree
def test_package_xml_and_setup_py_agree() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    setup = (ROOT / "setup.py").read_text()
    assert package.findtext("name") == "crl_node"
    assert package.findtext("version") == __version__
    assert f'version="{__version__}"' in setup
    assert package.findtext("export/build_type") == "ament_python"


@source_tree
def test_every_ros_package_that_nodes_import_is_a_dependency() -> None:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in package.iter() if element.tag.endswith("depend")}
    pattern = re.compile(r"^\s*(?:from|import) (rclpy|\w+_msgs|\w+_interfaces|\w+_srvs)\b", re.MULTILINE)
    used = {name for path in (ROOT / "crl_node" / "nodes").glob("*.py") for name in pattern.findall(path.read_text())}
    assert used - declared == {"rcl_interfaces"} & used  # rclpy's own


@source_tree
def test_every_message_file_is_built() -> None:
    folder = ROOT / "ros_ws" / "src" / "crl_interfaces"
    listed = set(re.findall(r'"((?:msg|srv)/\w+\.(?:msg|srv))"', (folder / "CMakeLists.txt").read_text()))
    present = {str(path.relative_to(folder)) for kind in ("msg", "srv") for path in (folder / kind).iterdir()}
    assert listed == present


@source_tree
def test_requirements_are_pinned_and_name_no_place() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"{path.name}: {line}"
    run = (ROOT / "requirements" / "run.txt").read_text().splitlines()
    assert "torch==2.13.0" in run
    assert not any(line.split("==")[0] == "launch" for line in run), "PyPI's launch is an unrelated program"


@source_tree
def test_setup_installs_all_data_and_executables() -> None:
    code = (
        "import setuptools, json, sys; kept = {}; "
        "setuptools.setup = lambda **options: kept.update(options); import runpy; "
        "runpy.run_path('setup.py'); print(json.dumps(kept['data_files']))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    files = dict(yaml.safe_load(result.stdout))
    assert files["share/ament_index/resource_index/packages"] == ["resource/crl_node"]
    assert sorted(Path(name).name for name in files["lib/crl_node"]) == sorted(NAMES)
    assert "launch/sim.launch.py" in files["share/crl_node/launch"]
    assert "config/dds/shm_only.xml" in files["share/crl_node/config/dds"]
    assert "sim/worlds/tabletop.yaml" in files["share/crl_node/sim/worlds"]
    everything = [name for names in files.values() for name in names]
    assert not any("__pycache__" in name for name in everything)


@source_tree
def test_folders_of_data_are_no_python_packages() -> None:
    for name in ("sim", "models", "tests", "launch"):
        assert not (ROOT / name / "__init__.py").exists()
