"""World files: the shipped ones load, every mistake is named with its line and its field."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from crl_node.simulator.world import WorldError, load_world, world_names

BASE = """\
seed: 3
camera:
  eye: [1.25, 0.0, 1.05]
  target: [0.6, 0.0, 0.0]
  fov: 34
things:
  - name: one
    shape: box
    size: [0.06, 0.06, 0.06]
    colour: [1.0, 0.0, 0.0]
    pose: [0.5, 0.0]
  - name: two
    shape: ball
    size: 0.06
    colour: [0.0, 1.0, 0.0]
  - name: button
    shape: cylinder
    size: [0.05, 0.04]
    colour: [0.0, 0.0, 1.0]
    button:
      lamp: lamp
  - name: lamp
    shape: cylinder
    size: [0.05, 0.02]
    colour: [1.0, 1.0, 1.0]
    pose: [0.7, 0.2]
    lamp:
      off: 0.2
springs:
  - a: one
    b: two
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_the_shipped_worlds_are_what_the_readme_says() -> None:
    assert set(world_names()) >= {"tabletop", "four_cubes", "clutter"}
    tabletop, cubes, clutter = (load_world(name) for name in ("tabletop", "four_cubes", "clutter"))
    assert sorted(thing.shape for thing in tabletop.things if thing.movable) == [
        "ball",
        "box",
        "box",
        "cylinder",
    ]
    assert [thing.button.mode for thing in tabletop.things if thing.button] == ["hold"]
    assert len(tabletop.springs) == 1
    assert [thing.shape for thing in cubes.things] == ["box"] * 4
    tv = load_world("noisy_tv")
    assert [thing.name for thing in tv.things if thing.shake] == ["shaker"]
    assert [thing.name for thing in tv.things if thing.flicker] == ["screen"]
    assert len(clutter.things) == 8 and 0 < sum(not thing.movable for thing in clutter.things) < 8


def test_colours_of_shipped_worlds_are_far_apart_and_far_from_the_table() -> None:
    for name in world_names():
        world = load_world(name)
        colours = [np.array(thing.colour) for thing in world.things] + [np.array(world.table.colour)]
        for i, one in enumerate(colours):
            for other in colours[:i]:
                assert np.linalg.norm(one - other) > 0.3, name


def test_a_world_of_ones_own_loads_by_path(tmp_path: Path) -> None:
    world = load_world(write(tmp_path, BASE))
    assert (world.name, world.seed, world.names) == ("mine", 3, ("one", "two", "button", "lamp"))
    assert world.thing("one").pose == (0.5, 0.0, 0.0)
    assert world.thing("two").size == (0.06,) and world.thing("two").mass == 0.2
    assert not world.thing("button").movable and world.thing("button").mass == 0.0
    assert world.camera.fov_y == pytest.approx(math.radians(34)) and world.camera.rate == 10.0
    assert world.thing("one").extent == pytest.approx(0.06 / math.sqrt(math.pi))


#: (text replaced, by what, line of the mistake, parts of the sentence)
MISTAKES = [
    ("seed: 3", "seed: 3\ngravity: 9.8", 2, ("gravity", "unknown field", "9.8", "things")),
    ("seed: 3", "seed: -1", 1, ("seed", "-1", "0 to")),
    ("    colour: [1.0, 0.0, 0.0]", "    colour: [1.0, 0.0, 1.5]", 10, ("things[0].colour", "1.5", "0 to 1")),
    ("    colour: [1.0, 0.0, 0.0]", "    colour: [1.0, 0.0]", 10, ("things[0].colour", "3 numbers")),
    ("    colour: [1.0, 0.0, 0.0]", "    colour: red", 10, ("things[0].colour", "'red'", "3 numbers")),
    ("    colour: [1.0, 0.0, 0.0]", "    colour: [1.0, 0.0, .nan]", 10, ("things[0].colour", "nan")),
    ("    colour: [1.0, 0.0, 0.0]\n", "", 7, ("things[0]", "lacks", "colour")),
    ("    colour: [1.0, 0.0, 0.0]", "    colour:", 10, ("things[0].colour", "empty")),
    ("  - name: two", "  - name: one", 12, ("things[1].name", "'one'", "line 7")),
    ("  - name: two", "  - name: body", 12, ("things[1].name", "'body'")),
    ("  - name: two", "  - name: 7", 12, ("things[1].name", "7", "text")),
    ("    shape: ball", "    shape: pyramid", 13, ("things[1].shape", "'pyramid'", "box, cylinder, ball")),
    ("    size: 0.06", "    size: -0.06", 14, ("things[1].size", "-0.06", "0.01")),
    ("    size: 0.06", "    size: [0.06, 0.06]", 14, ("things[1].size", "ball (diameter)")),
    ("    size: 0.06", "    size: 0.06\n    mas: 0.2", 15, ("things[1].mas", "unknown field", "mass")),
    ("    size: 0.06", "    size: 0.06\n    mass: heavy", 15, ("things[1].mass", "'heavy'", "kg")),
    ("    size: 0.06", "    size: 0.06\n    movable: maybe", 15, ("things[1].movable", "true or false")),
    (
        "    size: 0.06",
        "    size: 0.06\n    movable: false\n    mass: 1",
        16,
        ("things[1].mass", "immovable"),
    ),
    ("    size: 0.06", "    size: 0.06\n    pose: [0.52, 0.01]", 15, ("things[1].pose", "'one'", "overlap")),
    ("    size: 0.06", "    size: 0.06\n    pose: [0.9, 0.0]", 15, ("things[1].pose", "table", "0.79")),
    (
        "    size: 0.06",
        "    size: 0.06\n    pose: somewhere",
        15,
        ("things[1].pose", "'somewhere'", "random"),
    ),
    ("      lamp: lamp", "      lamp: two", 21, ("things[2].button.lamp", "'two'", "no lamp", "lamp")),
    ("      lamp: lamp", "      lamp: lamp\n      mode: push", 22, ("things[2].button.mode", "hold, toggle")),
    ("      lamp: lamp", "      lamp: lamp\n    movable: true", 22, ("things[2].movable", "do not move")),
    ("      off: 0.2", "      off: 0.9\n      on: 0.5", 29, ("things[3].lamp.on", "0.5", "0.9")),
    ("    size: 0.06", "    size: 0.06\n    shake: {step: 1}", 15, ("things[1].shake.step", "1", "0.0005 to 0.05 m")),
    ("    size: 0.06", "    size: 0.06\n    shake: {period: 0.1001}", 15, ("shake.period", "0.1001", "1/240 s")),
    ("    size: 0.06", "    size: 0.06\n    shake: {speed: 1}", 15, ("shake.speed", "unknown field", "force")),
    ("    size: 0.06", "    size: 0.06\n    shake: yes", 15, ("things[1].shake", "'yes'", "mapping")),
    ("      lamp: lamp", "      lamp: lamp\n    shake: {}", 22, ("things[2].shake", "immovable")),
    ("      off: 0.2", "      off: 0.2\n    flicker: {}", 29, ("things[3].flicker", "lamp")),
    (
        "    size: 0.06",
        "    size: 0.06\n    flicker: {low: 0.9, high: 0.2}",
        15,
        ("flicker.high", "0.2", "more than low", "0.9"),
    ),
    ("    b: two", "    b: three", 31, ("springs[0].b", "'three'", "one, two, button, lamp")),
    ("    b: two", "    b: one", 31, ("springs[0].b", "two different")),
    ("  - a: one\n    b: two", "  - a: button\n    b: lamp", 31, ("springs[0].b", "movable")),
    ("    b: two", "    b: two\n    stiffness: 1e9", 32, ("springs[0].stiffness", "N/m")),
    ("  fov: 34", "  fov: 170", 5, ("camera.fov", "170", "degrees")),
    ("  fov: 34", "  fov: 10", 5, ("camera.fov", "table corners", "whole table")),
    ("  fov: 34", "  fov: 34\n  rate: 7", 6, ("camera.rate", "7", "divisors of 240")),
    ("  fov: 34", "  fov: 34\n  size: [96, 8]", 6, ("camera.size", "8", "16 to 1024")),
    ("  eye: [1.25, 0.0, 1.05]", "  eye: [1.25, 0.0, -1.0]", 3, ("camera.eye", "under the table")),
    ("  target: [0.6, 0.0, 0.0]", "  target: [1.25, 0.0, 0.0]", 4, ("camera.target", "roll")),
    ("  fov: 34\n", "", 2, ("camera", "lacks", "fov")),
    ("seed: 3", "seed: 3\nseed: 4", 2, ("not valid YAML", "duplicate")),
    ("seed: 3", "seed: [3", 2, ("not valid YAML",)),
    ("seed: 3", "table: {x: [0.8, 0.4]}", 1, ("table.x", "0.8", "low, high")),
    ("things:\n", "things: 4\nthing:\n", 6, ("things", "4", "list")),
    ("  - name: one\n", "  - 5\n  - name: one\n", 7, ("things[0]", "5", "mapping")),
]


@pytest.mark.parametrize(("old", "new", "line", "parts"), MISTAKES)
def test_a_mistake_is_named_with_file_line_and_field(
    tmp_path: Path, old: str, new: str, line: int, parts: tuple[str, ...]
) -> None:
    assert BASE.count(old) == 1
    path = write(tmp_path, BASE.replace(old, new))
    with pytest.raises(WorldError) as caught:
        load_world(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}:{line}: "), sentence
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence, sentence


def test_an_unknown_name_lists_the_shipped_worlds() -> None:
    with pytest.raises(
        WorldError, match="no world 'atlantis': shipped worlds are .*clutter.*four_cubes.*tabletop"
    ):
        load_world("atlantis")


def test_a_missing_file_an_empty_file_and_bytes_are_named(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="no such world file"):
        load_world(tmp_path / "none.yaml")
    with pytest.raises(WorldError, match="mine.yaml:1: "):
        load_world(write(tmp_path, ""))
    (tmp_path / "noise.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(WorldError, match="noise.yaml"):
        load_world(tmp_path / "noise.yaml")


def test_more_things_than_slots_are_refused(tmp_path: Path) -> None:
    things = "".join(f"  - {{name: t{i}, shape: ball, size: 0.02, colour: [1, 0, 0]}}\n" for i in range(12))
    with pytest.raises(WorldError, match="things has 12 entries; allowed: a list of at most 11"):
        load_world(write(tmp_path, BASE[: BASE.index("things:")] + "things:\n" + things))
