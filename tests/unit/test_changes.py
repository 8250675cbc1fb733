"""Changes of a world in the course of a run: read with their lines, applied at their time, told only to the truth."""

from __future__ import annotations

from pathlib import Path

import pybullet
import pytest

from crl_node.arm.profile import load_profile
from crl_node.paths import share
from crl_node.simulator.causality import true_graph
from crl_node.simulator.changes import due, world_at
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import World, WorldError, load_world

START = """\
camera: {eye: [1.25, 0, 1.05], target: [0.6, 0, 0], fov: 34}
table: {x: [0.38, 0.82], y: [-0.30, 0.30]}
things:
  - {name: puck, shape: cylinder, size: [0.06, 0.05], colour: [1, 1, 0], pose: [0.5, 0.1], friction: 0.1}
  - {name: box, shape: box, size: [0.06, 0.06, 0.06], colour: [1, 0, 0], pose: [0.65, 0.1]}
  - {name: old, shape: cylinder, size: [0.05, 0.04], colour: [1, 0, 1], pose: [0.5, -0.15], button: {lamp: lamp}}
  - {name: new, shape: cylinder, size: [0.05, 0.04], colour: [0, 0, 1], pose: [0.65, -0.15], movable: false}
  - {name: lamp, shape: cylinder, size: [0.06, 0.02], colour: [0, 1, 1], pose: [0.75, 0.0], lamp: {}}
springs:
  - {a: puck, b: box, length: 0.15}
changes:
"""
FRICTION = "  - {at: 0.1, kind: friction, thing: puck, factor: 2}\n"
CUT = "  - {at: 0.2, kind: cut, a: box, b: puck}\n"
REWIRE = "  - {at: 0.3, kind: rewire, lamp: lamp, button: new}\n"


def world(tmp_path: Path, *changes: str) -> World:
    file = tmp_path / "w.yaml"
    file.write_text(START + "".join(changes))
    return load_world(file)


def test_changes_are_due_at_their_times_and_leave_everything_else_as_it_was(tmp_path: Path) -> None:
    first = world(tmp_path, FRICTION, CUT, REWIRE)
    assert [change.line for change in first.changes] == [12, 13, 14]
    assert world_at(first, 0.05) == first and due(first, 0.05) == ()
    slower = world_at(first, 0.1)
    assert slower.thing("puck").friction == pytest.approx(0.2) and slower.springs == first.springs
    assert [t for t in slower.things if t.name != "puck"] == [t for t in first.things if t.name != "puck"]
    assert world_at(first, 0.2).springs == ()
    last = world_at(first, 9.0)
    assert last.thing("old").button is None
    button = last.thing("new").button
    assert button is not None and (button.lamp, button.mode) == ("lamp", "hold")


def test_the_true_graph_is_the_one_of_the_moment(tmp_path: Path) -> None:
    first = world(tmp_path, FRICTION, CUT, REWIRE)
    assert ("LIT_BY", "old", "lamp.brightness") in true_graph(first).mechanisms
    after = true_graph(world_at(first, 1.0))
    assert after.mechanisms == (("LIT_BY", "new", "lamp.brightness"),)
    assert not after.edges["old", "lamp.brightness"]


def test_the_simulator_changes_its_bodies_and_says_so_in_the_truth_alone(tmp_path: Path) -> None:
    first = world(tmp_path, FRICTION, CUT, REWIRE)
    profile = load_profile(share() / "config" / "robots" / "iiwa_sim.yaml")
    with Simulator(first, profile, 0) as simulator:
        puck = simulator._bodies["puck"]

        def friction() -> float:
            return float(pybullet.getDynamicsInfo(puck, -1, physicsClientId=simulator.client)[1])

        simulator.advance(0.1)
        assert friction() == pytest.approx(0.1) and simulator.truth().changes == ()
        simulator.advance(0.1)
        assert friction() == pytest.approx(0.2) and len(simulator._springs) == 1
        assert simulator.truth().changes == ("friction of puck is multiplied by 2",)
        simulator.advance(0.2)
        assert simulator._springs == [] and list(simulator._pressed) == ["new"]
        assert [text.split()[0] for text in simulator.truth().changes] == ["friction", "the", "lamp"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("  - {at: 0, kind: cut, a: box, b: puck}\n", "w.yaml:12: changes[0].at"),
        ("  - {at: 1, kind: melt, thing: puck}\n", "w.yaml:12: changes[0].kind"),
        ("  - {at: 1, kind: friction, thing: lamp, factor: 2}\n", "no movable thing; allowed: puck, box"),
        ("  - {at: 1, kind: friction, thing: puck}\n", "lacks the field 'factor'"),
        ("  - {at: 1, kind: cut, a: box, b: lamp}\n", "end of a spring that is there by then"),
        ("  - {at: 1, kind: rewire, lamp: lamp, button: old}\n", "switches 'lamp' by then"),
        ("  - {at: 1, kind: rewire, lamp: lamp, button: box}\n", "immovable thing that is no lamp"),
        ("  - {at: 1, kind: cut, a: box, b: puck, factor: 2}\n", "unknown field"),
        (CUT + "  - {at: 1, kind: cut, a: box, b: puck}\n", "w.yaml:13: changes[1].a"),
        (CUT + "  - {at: 0.2, kind: friction, thing: puck, factor: 2}\n", "not after the change of line 12"),
    ],
)
def test_a_change_that_makes_no_sense_is_named_with_its_line(tmp_path: Path, change: str, complaint: str) -> None:
    with pytest.raises(WorldError) as error:
        world(tmp_path, change)
    assert complaint in str(error.value)


def test_the_shipped_changing_world_holds_one_change_of_each_kind() -> None:
    assert sorted(change.kind for change in load_world("changing").changes) == ["cut", "friction", "rewire"]
