"""A disk that is full: the old checkpoint and the old model stay whole, and the nodes go on.

A tmpfs of 256 kB in a mount namespace of its own where that is allowed (unshare), else a limit on the size of files.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crl_node.checkpoint import read_arrays, write_arrays
from crl_node.curiosity.assembly import default_model
from crl_node.world_model import WorldModel

FULL = """
import sys
from pathlib import Path
from crl_node.curiosity.assembly import default_model
from crl_node.export.onnx_model import write_atomically
from crl_node.world_model import WorldModel
folder, kept = Path(sys.argv[1]), Path(sys.argv[2])
for what, write in (
    ("checkpoint.npz", lambda path: WorldModel(seed=3).save(path)),
    ("model.onnx", lambda path: write_atomically(default_model().read_bytes(), path)),
):
    path = folder / what
    path.write_bytes(b"the old one")
    try:
        write(path)
    except OSError as error:
        print(what, error.strerror, path.read_bytes() == b"the old one", len(list(folder.iterdir())))
    else:
        print(what, "was written")
    path.unlink()
"""


def namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not namespaces(), reason="this machine lets nobody mount a small disk (unshare -rm)")
def test_on_a_full_disk_the_old_files_stay_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = f"mount -t tmpfs -o size=128k tmpfs {disk} && exec {sys.executable} -c \"$0\" {disk} {tmp_path}"
    result = subprocess.run(["unshare", "-rm", "sh", "-c", inside, FULL], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines() == [
        "checkpoint.npz No space left on device True 1", "model.onnx No space left on device True 1",
    ], result.stderr  # fmt: skip


def test_where_files_may_not_grow_the_old_checkpoint_stays(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    write_arrays(path, WorldModel(seed=3).checkpoint())
    before = path.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "from crl_node.world_model import WorldModel\n"
        "model = WorldModel(seed=4)\n"
        "try:\n    model.save(sys.argv[1])\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert result.stdout == "File too large\n", result.stderr
    assert path.read_bytes() == before
    assert read_arrays(path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.npz"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert default_model().stat().st_size > 10_000
