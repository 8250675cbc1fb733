"""Files of foreign origin are opened by a process that may die; this one lives."""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crl_node import quarantine
from crl_node.checkpoint import CheckpointError, read_arrays
from crl_node.curiosity.assembly import default_model
from crl_node.quarantine import Quarantine, QuarantineError, read_examined
from crl_node.world_model import WorldModel


@pytest.fixture(scope="module")
def child() -> Iterator[Quarantine]:
    with Quarantine() as one:
        yield one


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "one.npz"
    WorldModel(seed=3).save(path)
    return path.read_bytes()


def test_a_good_file_is_let_in_with_its_hash(child: Quarantine, checkpoint: bytes) -> None:
    assert child.examine(checkpoint, "checkpoint")["hash"] == WorldModel(seed=3).posterior().hash


def test_the_shipped_model_passes(child: Quarantine) -> None:
    assert child.examine(default_model().read_bytes(), "model")["version"] == 0


def test_a_damaged_file_is_refused_with_what_is_wrong(child: Quarantine, checkpoint: bytes) -> None:
    with pytest.raises(QuarantineError, match="cannot read the checkpoint"):
        child.examine(checkpoint[:-200], "checkpoint", "mine.npz")
    with pytest.raises(QuarantineError, match="hash"):
        data = default_model().read_bytes()
        child.examine(data.replace(b"proposals", b"propasols"), "model")


def _answer_to(look: str, monkeypatch: pytest.MonkeyPatch, memory: int = 2**31, seconds: float = 60.0) -> str:
    """What the server says when looking at a file does this; forked from here, so the patch is inherited."""

    def harm(data: bytes) -> dict[str, object]:
        faulthandler.disable()  # the crash is meant
        if look == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if look == "hang":
            signal.pause()
        if look == "memory":
            return {"size": len(bytearray(3 * 2**30))}
        if look == "vanish":
            os._exit(0)
        if look == "write":
            with Path("/tmp/crl_quarantine_must_not_write").open("wb") as file:
                file.write(b"x" * 100)
        return {}

    monkeypatch.setitem(quarantine._LOOKS, "checkpoint", harm)
    result = quarantine._look("checkpoint", b"", memory, seconds)
    assert not result["ok"]
    return str(result["problem"])


def test_a_file_that_kills_its_reader_kills_only_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "killed by SIGSEGV" in _answer_to("crash", monkeypatch)
    assert "ended without a word" in _answer_to("vanish", monkeypatch)


def test_a_file_that_takes_for_ever_or_all_memory_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "longer than 0.5 s" in _answer_to("hang", monkeypatch, seconds=0.5)
    assert "MemoryError" in _answer_to("memory", monkeypatch)


def test_the_child_may_not_write_files(monkeypatch: pytest.MonkeyPatch) -> None:
    said = _answer_to("write", monkeypatch)
    assert "SIGXFSZ" in said or "File too large" in said
    Path("/tmp/crl_quarantine_must_not_write").unlink(missing_ok=True)


def test_the_child_is_started_again_after_it_died(checkpoint: bytes) -> None:
    with Quarantine() as one:
        one.examine(checkpoint, "checkpoint")
        assert one.pid is not None
        os.kill(one.pid, signal.SIGKILL)
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
        one.examine(checkpoint, "checkpoint")


def test_a_file_that_is_not_there_or_too_large_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QuarantineError, match="cannot be read: No such file"):
        read_examined(tmp_path / "absent", "model")
    monkeypatch.setattr(quarantine, "SIZE_LIMIT", 10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(QuarantineError, match="has 11 bytes, at most 10"):
        read_examined(tmp_path / "large", "model")


def test_a_checkpoint_that_unpacks_to_gigabytes_is_refused_before_it_does() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (300 * 2**20,)})
        with archive.open("bomb.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range(300):
                member.write(bytes(2**20))
    assert len(packed.getvalue()) < 2**20
    with pytest.raises(CheckpointError, match="unpacks to 3145729.. bytes"):
        read_arrays("bomb.npz", packed.getvalue())
