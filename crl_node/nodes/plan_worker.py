"""Plans in a thread of their own, so that the node that asks for them reads its messages and keeps time meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from crl_node.data import Plan
from crl_node.nodes.base import ManagedNode


class PlanWorker:
    """Makes one plan at a time. All but the making happens in the executor's thread.

    What changes the planner (a new posterior, goals) waits until no plan is being made: see `when_idle`.
    """

    def __init__(
        self, node: ManagedNode, deliver: Callable[[Plan | ValueError], None], idle: Callable[[], None]
    ) -> None:
        """`deliver` takes a plan, or what was wrong with the belief, as soon as the messages before it are read.

        Then come the actions of `when_idle`, then `idle`, which may start the next plan.
        """
        self._node, self._deliver, self._idle = node, deliver, idle
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="plan")
        self._job: Future[Plan] | None = None
        self._wanted = False  # what the job makes
        self._later: list[Callable[[], None]] = []

    @property
    def busy(self) -> bool:
        """A plan is being made, or is made and not delivered yet."""
        return self._job is not None

    def start(self, make: Callable[[], Plan]) -> None:
        """Call `make` in the thread. RuntimeError while busy."""
        executor = self._node.executor
        if self.busy or executor is None:
            raise RuntimeError("a plan is being made already" if self.busy else "the node is not being spun")
        self._wanted, self._job = True, self._pool.submit(make)
        # Behind whatever arrived by then: a command goes on from what the gate did meanwhile, at the time it is then.
        self._job.add_done_callback(lambda job: executor.create_task(self._node.guarded(self._finish), job))

    def drop(self) -> None:
        """What is being made is not wanted any more."""
        self._wanted = False

    def when_idle(self, action: Callable[[], None]) -> None:
        """Call `action` now, or when the plan that is being made has been delivered."""
        if self.busy:
            self._later.append(action)
        else:
            action()

    def _finish(self, job: Future[Plan]) -> None:
        if job is not self._job:  # it was waited for
            return
        self._job = None
        try:
            error = job.exception()
            if error is not None and not isinstance(error, ValueError):
                raise error
            if self._wanted:
                self._deliver(job.result() if error is None else error)
        finally:
            self._act()
            self._idle()

    def _act(self) -> None:
        later, self._later = self._later, []
        for action in later:
            self._node.guarded(action)()

    def wait(self) -> None:
        """Until no plan is being made; what was is not delivered, and none is started."""
        if self._job is not None:
            self._job.exception()
            self._job = None
            self._act()
