"""`report.html`: one file that needs nothing else, written for a reader who has never heard of the project."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Picture:
    """An image that goes into the page itself."""

    data: bytes
    alt: str
    kind: str = "png"

    def tag(self) -> str:
        """The <img> element."""
        text = base64.b64encode(self.data).decode()
        return f'<img alt="{html.escape(self.alt)}" src="data:image/{self.kind};base64,{text}">'


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.4rem; border-bottom: 1px solid var(--line); }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .25rem .7rem; text-align: right; }
th { border-bottom: 1px solid var(--line); font-weight: 600; } td:first-child, th:first-child { text-align: left; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.facts div { background: var(--soft); border-radius: 6px; padding: .6rem .8rem; }
.facts b { display: block; font-size: 1.5rem; }
.note { background: #fa03; border-radius: 6px; padding: .5rem .8rem; margin: .4rem 0; } small { opacity: .75; }
"""


def number(value: Any, pattern: str = "{:.3f}") -> str:
    """A number for reading; a dash where there is none."""
    if value is None or isinstance(value, str):
        return str(value or "–")
    return pattern.format(value)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; cells are escaped."""
    if not rows:
        return "<p><small>Nothing to show.</small></p>"
    cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def page(report: Mapping[str, Any], pictures: Mapping[str, Picture]) -> str:
    """The whole page."""

    def show(name: str, text: str = "") -> str:
        picture = pictures.get(name)
        return (
            f"<p>{picture.tag()}</p><p><small>{text}</small></p>"
            if picture
            else "<p><small>No picture: see the notes.</small></p>"
        )

    world, policy = report.get("world") or "an unknown world", report.get("policy") or "unknown"
    title = html.escape(f"{report['seconds']:.0f} seconds of a {policy} robot in “{world}”")
    parts = [
        f"<h1>{title}</h1>",
        "<p>A robot arm with a camera was put before a table it knew nothing about. It was given no task. It moved the "
        "things on the table to find out <b>what moves what, and how</b>, and each time chose the movement from "
        "which it expected to learn most. This page compares what it found out with what is really the case in the "
        "simulated world, which it was never told.</p>",
        _facts(report),
        "".join(f'<div class="note">{html.escape(n)}</div>' for n in report["notes"]),
        "<h2>What it saw and did</h2>",
        show("animation", "Circles: what the robot takes for things. Lines from them: how it believes they move. Bars: "
             "brightness. Red: where it plans to move its pusher, and under the picture which experiment that is."),
        "<h2>What it found out</h2>",
        table(("law", "probability", "weight", "±"),
              [(law["text"], number(law["probability"], "{:.2f}"), number(law["weight"], "{:.2f}"),
                number(law["std"], "{:.2f}")) for law in report["laws"]]),
        "<p><small>Each law is a small program from a library of such programs. The probability says how sure the "
        "robot is that it belongs to the world; the weight is its strength.</small></p>",
        "<h2>Cause and effect</h2>",
        show("graph", "An arrow from A to B: A can change B."),
        show("edges", "Every possible arrow with its probability. Grey cells are no possible arrows."),
        show("active", "Which arrows act at each moment, as the robot believes (blue: probability); orange: the two "
             "really touch. " + _active(report)) if "active" in pictures else "",
        _world_changes(report),
        table(("hidden mechanism", "from", "acts on", "probability", "found", "likeliest there"),
              [(m["kind"].lower().replace("_", " "), m["cause"], m["effect"], number(m["probability"], "{:.2f}"),
                "yes" if m["found"] else "no", (m["believed"] or "nothing").lower().replace("_", " "))
               for m in report["mechanisms"]]),
        _shares(report),
        "<h2>Can it predict?</h2>",
        show("curve", "A fixed set of pushes, which the robot never saw, is predicted one step ahead with what it knew "
             "at each time. 1 is perfect; 0 is as good as always saying the average."),
        "<h2>Curiosity</h2>",
        show("gain", "How much it expected to learn from the movement it chose: about which laws hold (structure), how "
             "strong they are (parameters), and where things are (states). It falls as the world becomes known."),
        show("moved"),
        "<h2>Does it see what is there?</h2>",
        show("tracks", "From above, robot at the bottom. Lines: where things really went. Dots: where the robot saw "
             "them."),
        table(("thing", "seen as", "R²", "error", "visible", "first seen", "swaps", "lamp AUROC"),
              [(s["object"], s["name"] or "not seen", number(s["r2"], "{:.4f}"),
                number(None if s["rmse"] is None else 1000 * s["rmse"], "{:.1f} mm"), number(s["visible"], "{:.0%}"),
                number(s["first_seen"], "{:.1f} s"), s["swaps"], number(s["lamp_auroc"])) for s in report["slots"]]),
        "<h2>Machine room</h2>",
        show("latency"),
        _machine(report),
    ]  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{"".join(parts)}</html>\n'
    )


def _active(report: Mapping[str, Any]) -> str:
    return (
        f"AUROC against true contacts {number(report.get('now_auroc'), '{:.2f}')}; of the arrows said to act "
        f"{number(report.get('now_precision'), '{:.0%}')} were in contact."
    )


def _world_changes(report: Mapping[str, Any]) -> str:
    happened = report.get("world_changes") or []
    if not happened:
        return ""
    listed = "".join(f"<li>{html.escape(change)}</li>" for change in happened)
    return f"<p>The world changed during the run; the true graph shown is that of its end:</p><ul>{listed}</ul>"


def _shares(report: Mapping[str, Any]) -> str:
    rows = report.get("shares") or []
    if not rows:
        return ""

    def part(values: list[float]) -> str:
        return f"{values[0]:.0%} ({values[1]:.0%} to {values[2]:.0%})"

    return table(
        ("thing", "by named laws", "by many small effects", "unexplained", "probability of small effects"),
        [(r["name"], part(r["core"]), part(r["tail"]), part(r["noise"]), f"{r['tail_probability']:.2f}") for r in rows],
    ) + (
        "<p><small>What share of each thing's movement the robot explains, with the range that it is 90 % sure of."
        "</small></p>"
    )


def _facts(report: Mapping[str, Any]) -> str:
    moved = sum(v > 0.05 for v in report["moved"].values())
    ticks = report["ticks"]
    values = [
        (number(report["contact_r2"], "{:.2f}"), "R² on pushes it never saw (1 is perfect)"),
        (number(report["edge_auroc"], "{:.2f}"), "how well true causes rank above false ones (1 is perfect)"),
        (f"{moved} of {len(report['moved'])}", "things moved by more than 5 cm"),
        (
            f"{sum(m['found'] for m in report['mechanisms'])} of {len(report['mechanisms'])}",
            "hidden mechanisms found",
        ),
        (f"{ticks['missed']} of {ticks['planned']}", "control ticks missed"),
    ]
    return (
        '<div class="facts">'
        + "".join(f"<div><b>{v}</b>{html.escape(t)}</div>" for v, t in values)
        + "</div>"
    )


def _machine(report: Mapping[str, Any]) -> str:
    bag = [
        (topic, number(n["sent"], "{}"), n["recorded"],
         number(100 * n["recorded"] / n["sent"], "{:.2f} %") if n["sent"] else "–")
        for topic, n in report["bag"].items()
    ]  # fmt: skip
    digest = html.escape(str(report["posterior_hash"] or "–")[:16])
    parts = [
        f"<p>Model version {number(report['posterior_version'], '{}')}, learned from "
        f"{number(report['steps'], '{}')} steps; hash <code>{digest}</code>. "
        f"Planned on {html.escape(', '.join(report['providers']) or 'an unknown provider')}.</p>",
        "<p>" + "<br>".join(html.escape(r) for r in report["ticks"]["reasons"]) + "</p>",
        table(("topic", "sent", "recorded", "share"), bag),
        table(("process", "peak memory"), [(k, f"{v:.0f} MB") for k, v in report["memory_mb"].items()]),
        "<p><small>"
        + html.escape(", ".join(f"{k} {v}" for k, v in report["versions"].items()))
        + "</small></p>",
    ]
    return "".join(parts)
