"""The one thread that writes a bag: messages are handed over and never waited for, the first error stops recording."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crl_node.bags.writer import BagWriter


class WriterThread:
    """Takes messages from other threads and writes them. What does not fit into `backlog` is dropped and counted."""

    def __init__(
        self,
        writer: BagWriter,
        *,
        flush_period: float,
        backlog: Callable[[], int],
        min_free: Callable[[], int],
        on_error: Callable[[str], None],
    ) -> None:
        """`flush_period` s; `backlog` and `min_free` bytes, asked anew each time; `on_error` hears one sentence."""
        self.writer = writer
        self.stopped_because = ""  # empty while recording
        self.dropped: Counter[str] = Counter()  # messages by topic
        self.waiting_bytes = 0
        self._flush_period, self._backlog, self._min_free, self._on_error = flush_period, backlog, min_free, on_error
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="bag writer", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path:
        return self.writer.folder

    def put(self, topic: str, data: bytes, *, received: int, sent: int, sequence: int) -> bool:
        """Hand one serialised message over (times in ns); False when it was dropped."""
        with self._lock:
            fits = not self.stopped_because and self.waiting_bytes + len(data) <= self._backlog()
            self.waiting_bytes += len(data) if fits else 0
            self.dropped[topic] += not fits
        if fits:
            self._queue.put((topic, data, received, sent, sequence))
        return fits

    def do(self, action: Callable[[], None]) -> None:
        """Run `action` (which writes) in the writing thread, after what was handed over before."""
        self._queue.put(action)

    def written(self, patience: float) -> bool:
        """Wait until all that was handed over is with the kernel; False when `patience` s were not enough."""
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout=patience)

    def end(self, patience: float) -> None:
        """End the thread; the writer can then be closed."""
        self._queue.put(None)
        self._thread.join(timeout=patience)

    def _run(self) -> None:
        while True:
            self.writer.min_free_bytes = self._min_free()
            try:
                item = self._queue.get(timeout=self._flush_period)
            except queue.Empty:
                self._attempt(self.writer.flush)
                continue
            if item is None:
                return
            if isinstance(item, threading.Event):
                self._attempt(self.writer.flush)
                item.set()
            elif callable(item):
                self._attempt(item)
            else:
                self._write(*item)

    def _write(self, topic: str, data: bytes, received: int, sent: int, sequence: int) -> None:
        with self._lock:
            self.waiting_bytes -= len(data)

        def write() -> None:
            self.writer.write(topic, data, log_time=received, publish_time=sent, sequence=sequence)

        if not self._attempt(write):
            with self._lock:
                self.dropped[topic] += 1

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Do it unless recording has stopped; the first error stops recording, and nothing else."""
        if self.stopped_because:
            return False
        try:
            action()
        except Exception as error:  # whatever it is, the loop goes on without a recorder
            self.stopped_because = str(error) or type(error).__name__
            self._on_error(f"{self.stopped_because} (the rest of the system is not affected)")
            self._close_early()
            return False
        return True

    def _close_early(self) -> None:
        """Make the bag whole while there still is space for its index."""
        try:
            self.writer.close()
        except Exception as error:  # a disk that is really full; the complete chunks are there all the same
            self._on_error(f"the bag could not be closed whole ({error}); 'crl bag recover' will do it")
