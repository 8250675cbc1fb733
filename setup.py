"""One ament_python package, built by colcon and by pip alike.

The names of the nodes stay out of `bin/`: they are installed as `lib/crl_node/<node>`, where `ros2 run` looks.
"""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "crl_node"
HERE = Path(__file__).parent
#: Folders of data that are installed under share/crl_node as they are.
DATA = ("benchmarks", "config", "launch", "models", "sim")


def data_files() -> list[tuple[str, list[str]]]:
    """(target folder, files) pairs, paths relative to this file."""
    files = [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"lib/{NAME}", sorted(str(p.relative_to(HERE)) for p in (HERE / "executables").iterdir() if p.is_file())),
    ]
    by_folder: dict[str, list[str]] = {}
    for path in sorted(p for name in DATA for p in (HERE / name).rglob("*")):
        relative = path.relative_to(HERE)
        if path.is_file() and "__pycache__" not in relative.parts:
            by_folder.setdefault(f"share/{NAME}/{relative.parent}", []).append(str(relative))
    return files + sorted(by_folder.items())


setup(
    name=NAME,
    version="0.1.0",
    description="A curious robot arm that learns an uncertain causal model of what its camera sees",
    license="Apache-2.0",
    maintainer="crl_node maintainers",
    maintainer_email="maintainers@example.org",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "**/*.html", "**/*.css", "**/*.js", "**/*.svg"]},
    python_requires=">=3.11",
    # Dependencies are pinned in requirements/ (pip) and named in package.xml (rosdep): not a third time here.
    data_files=data_files(),
    zip_safe=False,
    entry_points={"console_scripts": ["crl = crl_node.cli:main"]},
)
