"""The report's short form for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from crl_node.report.page import number


def summary(report: Mapping[str, Any]) -> RenderableType:
    """What `crl report` prints: headline numbers, slots, hidden mechanisms, notes."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    for name, value in headline(report):
        facts.add_row(name, value)
    parts: list[RenderableType] = [facts]
    if report["slots"]:
        slots = Table(
            "thing",
            "slot",
            "R²",
            "first seen",
            "swaps",
            "moved",
            "lamp AUROC",
            box=None,
            title_justify="left",
        )
        for s in report["slots"]:
            slots.add_row(
                s["object"],
                s["name"] or Text("not seen", style="red"),
                number(s["r2"], "{:.4f}"),
                number(s["first_seen"], "{:.1f} s"),
                str(s["swaps"]),
                number(report["moved"].get(s["object"]), "{:.2f} m"),
                number(s["lamp_auroc"]),
            )
        parts += [Text(), slots]
    for m in report["mechanisms"]:
        mark = Text("found  ", style="green") if m["found"] else Text("missed ", style="red")
        text = f"{words(m['kind'])}: {m['cause']} -> {m['effect']} ({m['probability']:.2f})"
        if not m["found"] and m["edge_probability"] >= 0.5 and m["believed"]:
            text += f"; taken for {words(m['believed'])} ({m['edge_probability']:.2f})"
        parts.append(mark + Text(text, style=""))
    parts += [Text(note, style="yellow") for note in report["notes"]]
    return Group(*parts)


def words(kind: str) -> str:
    """LIT_BY as "lit by"."""
    return kind.lower().replace("_", " ")


def headline(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of the numbers that matter most."""
    ticks, latency = report["ticks"], report["latency_ms"]
    recorded = sum(n["recorded"] for n in report["bag"].values() if n["sent"])
    sent = sum(n["sent"] for n in report["bag"].values() if n["sent"])
    rows = [
        (
            "world",
            f"{report['world'] or '–'}, seed {number(report['seed'], '{}')}, policy {report['policy'] or '–'}",
        ),
        ("simulated", f"{report['seconds']:.1f} s, {number(report['steps'], '{}')} steps learned from"),
        ("R² on unseen pushes", _curve(report)),
        ("edges", f"AUROC {number(report['edge_auroc'])}, AUPRC {number(report['edge_auprc'])}"),
        ("ticks missed", f"{ticks['missed']} of {ticks['planned']}"),
    ]
    shown = [
        f"{name.replace('_', ' ')} {v['p50']:.1f} / {v['p99']:.1f}"
        for name, v in latency.items()
        if v.get("p50") is not None
    ]
    if shown:
        rows.append(("ms, p50 / p99", ", ".join(shown)))
    if sent:
        rows.append(("bag", f"{recorded} of {sent} messages ({100 * recorded / sent:.2f} %)"))
    if report["providers"]:
        rows.append(("planned on", ", ".join(report["providers"])))
    return rows


def _curve(report: Mapping[str, Any]) -> str:
    sixty = report.get("contact_r2_60")
    return number(report["contact_r2"]) + (f" ({sixty:.3f} after 60 s)" if sixty is not None else "")
