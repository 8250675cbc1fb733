"""`crl sim` and `crl report`: the display around a session, and what is said at its end."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from crl_node.cli.exits import FAILURE, INTERRUPTED, TERMINATED
from crl_node.cli.live import LiveView, line
from crl_node.session import Outcome, Session
from crl_node.status import Status
from crl_node.supervisor import NodeFailedError

#: Real time between two lines of a run without a live display, s.
_LINE_EVERY = 10.0


def run_sim(session: Session, console: Console, errors: Console, *, headless: bool, report: bool) -> int:
    """Run, show, report; the exit code."""
    from crl_node.simulator.world import load_world

    session.prepare()
    options = session.options
    world = load_world(options.world)
    mode = "lockstep" if options.lockstep else f"real time x {options.rtf:g}"
    title = f"{world.name}, seed {options.seed}, {options.policy}, {mode}"
    console.print(f"crl sim: {title}. Everything goes to [bold]{escape(str(session.out))}[/].")
    table = (*world.table.x, *world.table.y)
    try:
        if headless or not console.is_terminal:
            outcome = _run_with_lines(session, console)
        else:
            outcome = _run_with_display(session, console, LiveView(title=title, seconds=options.seconds, table=table))
    except NodeFailedError as error:
        errors.print(f"crl: {escape(str(error))}", highlight=False, soft_wrap=True)
        return FAILURE
    facts = session.facts
    console.print(
        f"{outcome.value} after {facts['simulated_seconds']:.1f} simulated s ({facts['wall_seconds']:.0f} s of real "
        f"time); peak memory " + ", ".join(f"{name} {mb:.0f} MB" for name, mb in facts["peak_memory_mb"].items())
    )
    if outcome is Outcome.TERMINATED:
        console.print(f"no report was made; make it with: crl report {escape(str(session.out))}")
        return TERMINATED
    code = make_report(session.out, console, errors) if report else 0
    return INTERRUPTED if outcome is Outcome.INTERRUPTED else code


def run_robot(session: Session, console: Console, errors: Console) -> int:
    """Run on an arm or its mock and say where the bag is; the exit code."""
    session.prepare()
    console.print(f"crl robot: {session.options.robot}. Everything goes to [bold]{escape(str(session.out))}[/].")
    try:
        outcome = _run_with_lines(session, console)
    except NodeFailedError as error:
        errors.print(f"crl: {escape(str(error))}", highlight=False, soft_wrap=True)
        return FAILURE
    facts = session.facts
    console.print(f"{outcome.value} after {facts['wall_seconds']:.0f} s; the bag is {escape(str(session.out / 'bag'))}")
    return {Outcome.INTERRUPTED: INTERRUPTED, Outcome.TERMINATED: TERMINATED}.get(outcome, 0)


def _run_with_lines(session: Session, console: Console) -> Outcome:
    last = time.monotonic() - _LINE_EVERY + 1.0

    def on_update(status: Status) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY:
            last = time.monotonic()
            console.print(escape(line(status, session.options.seconds)), highlight=False, soft_wrap=True)

    return session.run(on_update, lambda text: console.print(escape(text), style="yellow", soft_wrap=True))


def _run_with_display(session: Session, console: Console, view: LiveView) -> Outcome:
    with Live(view.render(Status()), console=console, auto_refresh=False, transient=False) as live:
        last = 0.0

        def on_update(status: Status) -> None:
            nonlocal last
            if time.monotonic() - last >= 0.25:
                last = time.monotonic()
                live.update(view.render(status), refresh=True)

        return session.run(on_update, view.events.append)


def make_report(folder: Path, console: Console, errors: Console) -> int:
    """Build the report of `folder` and print its short form; the exit code."""
    from crl_node.report import build
    from crl_node.report.build import ReportError

    console.print("making the report: the run is evaluated against the truth …")
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        content = build(folder)
    except ReportError as error:
        errors.print(f"crl: {escape(str(error))}", soft_wrap=True)
        return FAILURE
    except KeyboardInterrupt:
        errors.print(f"no report was made; make it with: crl report {escape(str(folder))}")
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    try:
        from crl_node.report.terminal import summary
    except ImportError:
        pass
    else:
        console.print(summary(content))
    console.print(f"The report: [bold]{escape(str((folder / 'report.html').absolute()))}[/]", soft_wrap=True)
    return 0
