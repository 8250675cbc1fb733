"""How many messages were sent on a topic, told from the sequence numbers of those that arrived."""

from __future__ import annotations


class SentCounter:
    """Counts what the publishers of one topic sent, from the publication sequence numbers received.

    Every publisher numbers its messages 1, 2, 3, … and DDS delivers them in order, so the largest number seen
    of each publisher is how many it had sent by then: losses in between and before the first match are
    counted, only what is lost after the last arrival cannot be seen. rclpy does not say who published, so a
    number is given to the publisher that it continues; several publishers on a topic (diagnostics) are told
    apart that way, and one that was restarted begins again at 1.
    """

    def __init__(self, earlier: int = 0) -> None:
        """`earlier` messages were sent while another recorder wrote to the same bag."""
        self._earlier = earlier
        self._base: int | None = None  # sent by publishers that were gone when we came
        self._last: list[int] = []  # largest sequence number by publisher
        self.received = 0
        self.unnumbered = 0  # arrived without a sequence number: this middleware does not give them

    def saw(self, sequence: int | None) -> None:
        """Take note of one received message."""
        self.received += 1
        if sequence is None or sequence <= 0:
            self.unnumbered += 1
            return
        if self._base is None:
            # Publishers that live on count on; new ones begin below what the earlier recorder saw.
            self._base = self._earlier if sequence <= self._earlier else 0
        if sequence - 1 in self._last:
            self._last[self._last.index(sequence - 1)] = sequence
            return
        below = [n for n in self._last if n < sequence]
        if sequence == 1 or not below:
            self._last.append(sequence)
        elif sequence in self._last:
            return  # kept by its publisher and delivered again after we subscribed anew
        else:
            # A gap: the publisher that it is nearest to lost the fewest.
            self._last[self._last.index(max(below))] = sequence

    @property
    def sent(self) -> int | None:
        """Messages sent up to the last that arrived; None when sequence numbers are not available."""
        if self.unnumbered:
            return None
        base = self._earlier if self._base is None else self._base
        return base + sum(self._last)

    @property
    def publishers(self) -> int:
        """Publishers seen, restarted ones counted anew."""
        return len(self._last)
