"""A learner that dies while it writes its checkpoint leaves a whole one behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from crl_node.checkpoint import remove_partial
from crl_node.world_model import WorldModel

WRITER = """
import sys
from crl_node.world_model import WorldModel
model = WorldModel(seed=3)
while True:
    model.step += 1
    model._dirty = True
    model.save(sys.argv[1])
    print(model.step, flush=True)
"""


def test_a_checkpoint_is_whole_after_kill_9_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    for lines in (1, 3, 4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(lines):
            written = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert WorldModel.load(path).step >= written
    remove_partial(path)
    assert list(tmp_path.iterdir()) == [path]
