"""kill -9 of a recording process: every complete chunk is read back."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from rosbags.rosbag2 import Reader

from crl_node.bags.reader import BagReader
from crl_node.bags.repair import repair_bag

WRITER = """
import os, sys
from pathlib import Path
from crl_node.bags.metadata import TopicInfo
from crl_node.bags.writer import BagWriter
from tests.support.synthetic_run import Messages, definitions
messages = Messages()
writer = BagWriter(Path(sys.argv[1]), definitions=definitions(), chunk_bytes=4096, flush_period=1e9, min_free_bytes=0)
writer.add_topic(TopicInfo("/learner/report", "crl_interfaces/msg/StepReport"))
for n in range(10_000_000):
    data = messages.bytes(messages.make("crl_interfaces/msg/StepReport", step=n, note="x" * 500))
    writer.write("/learner/report", data, log_time=n, sequence=n + 1)
    if n == 500:
        print("500 written", flush=True)
"""


def test_a_bag_survives_kill_9_of_the_process_that_writes_it(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "bag")],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "500 written\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    reader = BagReader(tmp_path / "bag")
    steps = [m.message.step for m in reader.messages()]
    # A chunk holds 8 of these messages: at most the last one, not yet complete, is lost, plus what was in hand.
    assert len(steps) > 480
    assert steps == list(range(len(steps)))
    assert reader.notes
    repair_bag(tmp_path / "bag")
    with Reader(tmp_path / "bag") as whole:
        assert whole.message_count == len(steps)
