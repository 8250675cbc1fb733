"""Every parameter is declared once, and the page about them says what the declaration says."""

from __future__ import annotations

from pathlib import Path

from crl_node.parameter_docs import documentation_file, nodes_with_parameters, page
from crl_node.parameter_spec import load_specs
from crl_node.system import MANAGED


def test_the_page_about_parameters_is_current() -> None:
    assert documentation_file().read_text() == page(), "write it anew: crl params --write"


def test_every_node_has_its_parameters_on_the_page() -> None:
    assert {*MANAGED, "manager"} <= set(nodes_with_parameters())
    text = page()
    for node in nodes_with_parameters():
        for spec in load_specs(node).values():
            assert f"| `{spec.name}` | {spec.type}" in text
            assert spec.description.replace("|", "\\|") in text


def test_every_number_has_a_unit_or_is_a_ratio() -> None:
    """A bare float is a question to whoever has to set it."""
    for node in nodes_with_parameters():
        for spec in load_specs(node).values():
            assert spec.description.endswith("."), f"{node}.{spec.name}"
            if spec.element is float:
                ratio = any(word in spec.description for word in (" per ", "hare", "actor", "robability"))
                assert spec.unit or ratio, f"{node}.{spec.name} has neither a unit nor says what it is a ratio of"


def test_no_node_declares_a_parameter_anywhere_else() -> None:
    nodes = Path(__file__).resolve().parents[2] / "crl_node" / "nodes"
    calls = {p.name for p in nodes.glob("*.py") if "declare_parameter(" in p.read_text()}
    assert calls == {"parameters.py"}
