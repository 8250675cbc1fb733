"""The terminal's view of a run: what it sees, what it has found out, what it expects to learn."""

from __future__ import annotations

import numpy as np
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crl_node.data import BODY
from crl_node.status import Status, goal_words, sentence, where

#: Edges less probable than this are not worth a line.
_LEAST_PROBABILITY = 0.2


class LiveView:
    """Renders a `Status`; `events` are the supervisor's last words."""

    def __init__(
        self, *, title: str, seconds: float, table: tuple[float, float, float, float], rows: int = 10
    ) -> None:
        self.title, self.seconds, self.table, self.rows = title, seconds, table, rows
        self.events: list[str] = []

    def render(self, status: Status) -> RenderableType:
        """The whole screen."""
        columns = Table.grid(expand=True, padding=(0, 1))
        columns.add_column(ratio=1)
        columns.add_column(ratio=1)
        columns.add_row(self._sees(status), self._found(status))
        parts: list[RenderableType] = [self._progress(status), columns, self._expects(status), self._loop(status)]
        notes = [*self.events[-3:], *list(status.notes)[-2:]]
        if notes:
            parts.append(Text("\n".join(notes), style="yellow"))
        return Group(*parts)

    def _progress(self, status: Status) -> RenderableType:
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column()
        line.add_column(ratio=1)
        line.add_column(justify="right")
        clock = f"{status.time:6.1f} s" + (f" of {self.seconds:g} s" if self.seconds > 0 else "")
        bar = ProgressBar(total=self.seconds or None, completed=status.time, pulse=self.seconds <= 0)
        line.add_row(Text(self.title, style="bold"), bar, clock)
        if status.phase != "running":
            states = ", ".join(f"{name} {state}" for name, state in status.node_states.items())
            line.add_row(Text(f"system is {status.phase}", style="yellow"), Text(states, style="dim"), "")
        return line

    def _sees(self, status: Status) -> RenderableType:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True)
        for name in ("", "thing", "where", "x, y cm", "light", "seen", "moved"):
            table.add_column(name, no_wrap=True)
        for slot in sorted(status.slots.values(), key=lambda s: s.id)[: self.rows]:
            r, g, b = (round(255 * float(np.clip(np.nan_to_num(c), 0.0, 1.0))) for c in slot.colour)
            name = "the arm" if slot.id == BODY else f"thing {slot.id}"
            table.add_row(
                Text("██", style=f"rgb({r},{g},{b})"),
                name,
                where(slot.x, slot.y, self.table),
                f"{100 * slot.x:.0f}, {100 * slot.y:.0f}",
                f"{slot.brightness:.2f}",
                f"{slot.visible:.0%}",
                f"{100 * slot.moved:.0f} cm",
            )
        return Panel(table, title="what it sees", title_align="left", border_style="dim")

    def _found(self, status: Status) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(justify="right", width=5)
        table.add_column(ratio=1)
        shown = [edge for edge in status.edges if edge.probability >= _LEAST_PROBABILITY]
        for edge in shown[: self.rows]:
            style = "green" if edge.probability > 0.9 else "yellow" if edge.probability > 0.5 else "dim"
            acts = " (now)" if edge.now > 0.5 else ""
            table.add_row(f"{edge.probability:.0%}", Text(f"{sentence(edge, status.slots)}{acts}", style=style))
        if not shown:
            table.add_row("", Text("nothing yet", style="dim"))
        elif len(shown) > self.rows:
            table.add_row("", Text(f"and {len(shown) - self.rows} more", style="dim"))
        return Panel(table, title="what moves what", title_align="left", border_style="dim")

    def _expects(self, status: Status) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=12)
        table.add_column(justify="right", width=12)
        table.add_column(ratio=1)
        gain = status.gain
        if gain is None:
            table.add_row(Text("no plan yet", style="dim"), "", "")
        else:
            largest = max((g for _, g in status.gain_history if g > 0), default=1.0)  # NaN is not > 0
            for part, colour in (("structure", "magenta"), ("parameters", "cyan"), ("states", "blue")):
                nats = getattr(gain, part)
                table.add_row(part, f"{nats:.3f} nats", Bar(largest, 0.0, nats if nats > 0 else 0.0, color=colour))
            if status.goals:
                wanted = Text("; ".join(goal_words(status)), style="green")
                table.add_row(Text("goals", style="bold"), f"{status.preference:+.2f} nats", wanted)
            table.add_row(Text("doing", style="bold"), "", Text(status.doing or "…"))
        return Panel(table, title="what it expects to learn next", title_align="left", border_style="dim")

    def _loop(self, status: Status) -> RenderableType:
        parts = [f"{status.commands} commands ({status.holds} holds)", f"{status.frames} frames"]
        if status.dropped or status.rejected:
            parts.append(f"{status.dropped} dropped, {status.rejected} rejected")
        parts.append(f"{status.transitions} steps learned")
        for name in ("see", "learn", "plan"):
            median = status.median_ms(name)
            if median is not None:
                parts.append(f"{name} {median:.1f} ms")
        if status.provider:
            parts.append(status.provider.removesuffix("ExecutionProvider"))
        return Text(" · ".join(parts), style="dim")


def line(status: Status, seconds: float) -> str:
    """One line for a log or a terminal that is none."""
    sure = sum(edge.probability > 0.9 for edge in status.edges)
    gain = "no plan yet" if status.gain is None else f"expects {status.gain.total:.3f} nats from '{status.doing}'"
    gain += "".join(f"; goal: {words}" for words in goal_words(status))
    end = f"/{seconds:g}" if seconds > 0 else ""
    return (
        f"[{status.time:.1f}{end} s] {status.phase}: {max(len(status.slots) - 1, 0)} things seen, "
        f"{status.transitions} steps learned, {sure} edges above 90 %, {gain}"
    )
