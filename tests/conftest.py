"""Fixtures shared by all tests: a ROS domain of one's own, and nodes as processes that never outlive a test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from crl_node import shared_memory
from crl_node.system import NodeSpec, lease_domain, node_command, ros_environment

for _pin in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_pin, "1")

# No test asserts wall time: on a busy machine an example takes as long as it takes.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

#: A limit that only a hung process reaches, s. Not a measure of anything.
PATIENCE = 60.0


class RosDomain:
    """One test's ROS domain. `wait_until` spins the test's own node; `processes` are ended with the test."""

    def __init__(self, domain_id: int, environment: dict[str, str], folder: Path) -> None:
        self.id = domain_id
        self.environment = environment
        self.folder = folder
        self.processes: list[NodeProcess] = []
        self.shm: set[Path] = set()
        self._own = shared_memory.OwnFiles()
        self._looked = 0.0
        self._context: Any = None
        self._executor: Any = None
        self._node: Any = None

    @property
    def node(self) -> Any:
        """An rclpy node of the test itself, made on first use."""
        if self._node is None:
            import rclpy
            from rclpy.context import Context
            from rclpy.executors import SingleThreadedExecutor

            self._context = Context()
            rclpy.init(context=self._context, domain_id=self.id)
            self._node = rclpy.create_node("test_probe", context=self._context)
            self._executor = SingleThreadedExecutor(context=self._context)
            self._executor.add_node(self._node)
        return self._node

    def wait_until(
        self, condition: Callable[[], bool], what: str = "the condition", patience: float = PATIENCE
    ) -> None:
        """Spin until `condition()`; fails with `what` and the ends of the processes' logs when it never comes."""
        self.node  # noqa: B018
        deadline = time.monotonic() + patience
        while not condition():
            self._executor.spin_once(timeout_sec=0.05)
            self.look()
            assert time.monotonic() < deadline, f"{what} did not come true in {patience} s\n{self.logs()}"

    def look(self) -> None:
        """Note the shared memory of all processes, once a second: one that dies by itself cannot be asked later."""
        if time.monotonic() - self._looked > 1.0:
            self._looked = time.monotonic()
            for process in self.processes:
                self.shm |= shared_memory.files_used_by(process.popen.pid)

    def spin_once(self) -> None:
        """Take one message that has arrived, if there is any."""
        self._executor.spin_once(timeout_sec=0.0)

    def call(self, service_type: Any, name: str, request: Any = None) -> Any:
        """Answer of a service, after waiting for it to be there."""
        client = self.node.create_client(service_type, name)
        try:
            self.wait_until(client.service_is_ready, f"service {name}")
            future = client.call_async(request or service_type.Request())
            self.wait_until(future.done, f"an answer of {name}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def transition(self, node: str, label: str) -> bool:
        """Trigger 'configure', 'activate', 'deactivate', 'cleanup' ... of a lifecycle node; its success."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(transition=Transition(label=label))
        return bool(self.call(ChangeState, f"{node}/change_state", request).success)

    def state(self, node: str) -> str:
        """'unconfigured', 'inactive', 'active' or 'finalized'."""
        from lifecycle_msgs.srv import GetState

        return str(self.call(GetState, f"{node}/get_state").current_state.label)

    def publisher(self, message_type: Any, topic: str, qos: Any = 10) -> Any:
        """A publisher that already has a subscriber."""
        publisher = self.node.create_publisher(message_type, topic, qos)
        self.wait_until(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        return publisher

    def collect(self, message_type: Any, topic: str, qos: Any = 10, *, matched: bool = True) -> list[Any]:
        """A list that grows with every message on `topic`; waits for a publisher unless `matched` is False."""
        received: list[Any] = []
        subscription = self.node.create_subscription(message_type, topic, received.append, qos)
        if matched:
            self.wait_until(lambda: subscription.get_publisher_count() > 0, f"a publisher of {topic}")
        return received

    def process(self, name: str, command: list[str]) -> NodeProcess:
        """Start any command in this domain; it is ended with the test."""
        process = NodeProcess(self, name, command, self.environment)
        self.processes.append(process)
        return process

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {p.name} (exit code {p.popen.poll()})\n{p.log()[-3000:]}" for p in self.processes)

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.end()
        self._own.look()
        if self._node is not None:
            self._executor.shutdown()
            self._node.destroy_node()
            self._context.try_shutdown()
        self._own.remove(known=self.shm, domain=self.id)


class NodeProcess:
    """A process of a test with its log."""

    def __init__(self, domain: RosDomain, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.domain, self.name = domain, name
        self.log_path = domain.folder / f"{name}.{len(domain.processes)}.log"
        with self.log_path.open("wb") as log:
            self.popen = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; the exit code (minus the signal's number when it killed it)."""
        self.domain.shm |= shared_memory.files_used_by(self.popen.pid)
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(timeout=PATIENCE)

    def end(self) -> None:
        """SIGINT, then SIGKILL to the whole session."""
        self.domain.shm |= shared_memory.files_used_by(self.popen.pid)
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(timeout=PATIENCE)


@pytest.fixture
def ros_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RosDomain]:
    """A ROS domain nobody else uses, over shared memory only. After the test no process and no file of it is left."""
    yield from _domain(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def module_domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RosDomain]:
    """The same for all tests of a module, where starting the nodes again for each would take minutes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield from _domain(tmp_path_factory.mktemp("domain"), monkeypatch)


def _domain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RosDomain]:
    pytest.importorskip("rclpy")
    pytest.importorskip("crl_interfaces")
    for name in ("ROS_DOMAIN_ID", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    lease = lease_domain()
    environment = ros_environment(lease.domain_id, run_dir=folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    domain = RosDomain(lease.domain_id, environment, folder)
    try:
        yield domain
    finally:
        domain.close()
        lease.release()


@pytest.fixture
def node_process(ros_domain: RosDomain) -> Callable[..., NodeProcess]:
    """Starts a node: `node_process("learner", {"seed": 1})` runs crl_node.nodes.learner in the test's domain."""
    return node_starter(ros_domain)


def node_starter(ros_domain: RosDomain) -> Callable[..., NodeProcess]:
    """`node_process` for a domain."""

    def start(
        executable: str,
        parameters: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        remappings: dict[str, str] | None = None,
        params_file: Path | None = None,
    ) -> NodeProcess:
        spec = NodeSpec(name or executable, executable, parameters or {}, remappings or {})
        command = node_command(spec, params_file=params_file)
        return ros_domain.process(spec.name, command)

    return start
