"""Over what time an acceleration is one that an arm feels."""

from __future__ import annotations

#: Velocities are compared over this time, s.
#:
#: An arm's first resonance lies at 10 to 20 Hz (links, gears and base together), and a drive's velocity loop takes some
#: milliseconds: what changes within a quarter of the longer period, 25 ms, is one push to it, whatever staircase it
#: consists of; over longer times the pushes are felt one by one. Over one message of a stream, or one step of a joint's
#: sensor, every staircase and all noise would count as an infinite acceleration that no motor makes.
FELT = 0.025
