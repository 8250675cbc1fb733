"""What all our nodes share: lifecycle with honest errors, parameters from files, guarded callbacks, clean exit."""

from __future__ import annotations

import functools
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any, TypeVar

import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from crl_node.nodes import parameters
from crl_node.nodes.meters import Meters
from crl_node.parameter_spec import ParameterError
from crl_node.priority import give_way

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
#: Exit code of a node whose parameters cannot be used.
EXIT_BAD_PARAMETERS = 2
#: How long one wait for work may last, s: a signal is served no later than this.
_SPIN_SECONDS = 0.2
#: How long a node that stops waits for its subscribers to take its last messages, s.
_FLUSH_SECONDS = 0.3

Callback = TypeVar("Callback", bound=Callable[..., Any])


class Guard:
    """Wraps callbacks so that an exception is counted, logged once per text, and the node lives."""

    error_counts: Counter[str]  # by text

    def guarded(self, callback: Callback) -> Callback:
        """`callback` that never raises. A service's callback answers with success=False and the text instead."""

        @functools.wraps(callback)
        def wrapper(*arguments: Any) -> Any:
            try:
                return callback(*arguments)
            except Exception as error:
                text = self.report_error(f"in {getattr(callback, '__name__', 'a callback')}", error)
                response: Any = arguments[-1] if len(arguments) == 2 else None
                if hasattr(response, "success"):
                    response.success = False
                    if hasattr(response, "message"):
                        response.message = text
                return response

        return wrapper  # type: ignore[return-value]

    def report_error(self, where: str, error: BaseException, done: str = "the node goes on") -> str:
        """Count `error`, log it when its text is new with what was `done` about it, and return the text."""
        text = f"{type(error).__name__} {where}: {error}"
        self.error_counts[text] += 1
        if self.error_counts[text] == 1:
            self.get_logger().error(f"{text} ({done}; further ones like it are only counted)")  # type: ignore[attr-defined]
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                code = trace.tb_frame.f_code
                self.get_logger().error(f"  raised in {code.co_filename}:{trace.tb_lineno} ({code.co_name})")  # type: ignore[attr-defined]
        return text

    @property
    def error_count(self) -> int:
        """Exceptions caught so far."""
        return sum(self.error_counts.values())


class ManagedNode(Guard, LifecycleNode):
    """A lifecycle node: subclasses override setup, start, stop and teardown, and may raise in each of them."""

    params: SimpleNamespace  # current values of the parameters in config/parameters/<name>.yaml
    active: bool

    def __init__(self, name: str, **options: Any) -> None:
        """`name` picks the parameter file too; a remapped node name keeps its parameters."""
        self.error_counts = Counter()
        self.active = False
        self.meters = Meters()  # rates and ages of what `listen` receives
        super().__init__(name, **options)
        self.params = parameters.declare(self, name)
        if problem := give_way(getattr(self.params, "niceness", 0)):
            self.get_logger().warning(problem)

    def setup(self) -> None:
        """Load everything, create publishers and subscriptions (on_configure)."""

    def start(self) -> None:
        """Begin to act (on_activate)."""

    def stop(self) -> None:
        """Stop acting, keep everything loaded (on_deactivate)."""

    def teardown(self) -> None:
        """Undo `setup` (on_cleanup, on_shutdown); must cope with a `setup` that failed half-way."""

    def listen(self, kind: Any, topic: str, callback: Callback, qos: Any) -> Any:
        """A subscription whose callback is guarded and metered."""
        return self.create_subscription(kind, topic, self.meters.metered(topic, self.guarded(callback)), qos)

    def destroy_publisher(self, publisher: Any) -> bool:
        """As the base class does, and a lifecycle publisher is also forgotten by the state machine.

        rclpy keeps it otherwise: activated again with every later activation, and leaked with every configure.
        """
        self._managed_entities.discard(publisher)
        return bool(super().destroy_publisher(publisher))

    def now(self) -> float:
        """Seconds of the node's clock: simulated time when use_sim_time is set."""
        return float(self.get_clock().now().nanoseconds * 1e-9)

    # -- transitions ------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._step("configure", self.setup, "staying unconfigured"):
            return SUCCESS
        self._step("undo the failed configure", self.teardown)
        return FAILURE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        super().on_activate(state)  # enables the lifecycle publishers, so that `start` may publish
        if self._step("activate", self.start, "staying inactive"):
            self.active = True
            return SUCCESS
        super().on_deactivate(state)
        return FAILURE

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        # Even when `stop` fails the node counts as stopped: staying active is the one wrong answer.
        self._step("deactivate", self.stop)
        self._flush()
        super().on_deactivate(state)
        return SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return SUCCESS if self._step("clean up", self.teardown) else FAILURE

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self.active:
            self.on_deactivate(state)
        self._step("shut down", self.teardown)
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        self._step("recover from an error", self.teardown)
        return SUCCESS

    def _step(self, what: str, action: Callable[[], None], done: str = "it counts as done") -> bool:
        try:
            action()
        except Exception as error:
            self.report_error(f"while trying to {what}", error, done)
            return False
        return True

    def _flush(self) -> None:
        """Wait until subscribers have what `stop` published: a process that ends takes unread messages with it."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        for publisher in self.publishers:
            left = max(deadline - time.monotonic(), 0.0)
            publisher.wait_for_all_acked(Duration(nanoseconds=int(left * 1e9)))

    def close(self) -> None:
        """Leave by the lifecycle's own way from whatever state the node is in."""
        label = self._state_machine.current_state[1]
        if label in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()


def make_executor(context: Context | None = None) -> Executor:
    """What calls a node's callbacks, one after the other, of the default context if none is given.

    The events executor where this rclpy has it: the other asks all of a node's subscriptions, timers and services anew
    for each message, which took half of the gate's processor time.
    """
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor(context=context)
    return EventsExecutor(context=context)


def run(node_class: Callable[[], Node], arguments: list[str] | None = None, *, raw: bool = False) -> None:
    """A node's `main`: spin until SIGINT or SIGTERM, then stop it with the context still alive, and exit.

    `raw`: its subscriptions are to serialised messages, or ask when a message came, with which the events executor
    (rclpy 7.1) cannot cope.
    """
    stopping: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopping.append(number)

    # rclpy's own handlers shut the context down first, and then nothing can be published while stopping.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    node: Node | None = None
    code = 0
    try:
        try:
            node = node_class()
        except (ParameterError, ValueError) as error:
            print(f"{getattr(node_class, '__name__', 'node')} cannot start: {error}", file=sys.stderr, flush=True)
            code = EXIT_BAD_PARAMETERS
        else:
            executor = SingleThreadedExecutor() if raw else make_executor()
            executor.add_node(node)
            while not stopping and rclpy.ok():
                executor.spin_once(timeout_sec=_SPIN_SECONDS)
            if hasattr(node, "close"):
                node.close()
            executor.shutdown(timeout_sec=1.0)
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(code)


def stamp_to_seconds(stamp: Time) -> float:
    """Seconds of a `builtin_interfaces/Time`; exact to the nanosecond for simulated time (below 4e6 s)."""
    return float(stamp.sec + stamp.nanosec * 1e-9)


def seconds_to_stamp(seconds: float) -> Time:
    """`builtin_interfaces/Time` of `seconds`, rounded to the nanosecond: undoes `stamp_to_seconds`."""
    total = round(seconds * 1e9)
    return Time(sec=total // 1_000_000_000, nanosec=total % 1_000_000_000)
