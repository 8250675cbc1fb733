"""Who else speaks to the arm: publishers on our command topics that are not ours.

DDS lets anybody publish anywhere. A name is no proof of identity (that is what SROS2 is for, see SECURITY.md), but a
second program that commands the same arm by mistake is found by it, and named.
"""

from __future__ import annotations

import time

from rclpy.node import Node

#: How an endpoint is called whose node is not known (yet).
_UNKNOWN = ("_NODE_NAME_UNKNOWN_", "_CREATED_BY_BARE_DDS_APP_", "")
#: A named stranger counts when it was seen for this long, an unnamed one (discovery may be under way) for that, s.
NAMED_FOR, UNNAMED_FOR = 0.2, 2.0
#: How often the graph is asked, s.
LOOK_EVERY = 0.1


class ForeignWatch:
    """Looks for strangers on some topics. `expected`: topic -> name of the one node that may publish there.

    An empty name stands for whoever it is, as long as it is only one.
    """

    def __init__(self, node: Node, expected: dict[str, str]) -> None:
        self._node = node
        self._expected = {node.resolve_topic_name(topic): name for topic, name in expected.items()}
        self._seen: dict[tuple[str, bytes], float] = {}  # topic and endpoint -> monotonic s of the first look
        # A node that was stopped for longer than DDS waits (about 20 s) is discovered again without its name.
        self._names: dict[bytes, str] = {}  # by endpoint, as it was when it was known
        self._looked = -1e9
        self.problem = ""  # a sentence while there is one

    def look(self) -> str:
        """The sentence about strangers, or none; asks the graph at most every LOOK_EVERY s."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return self.problem
        self._looked = now
        seen: dict[tuple[str, bytes], float] = {}
        found = []
        for topic, expected in self._expected.items():
            endpoints = self._node.get_publishers_info_by_topic(topic)
            names = [self._full(e) for e in endpoints]
            allowed = f"{self._node.get_namespace().rstrip('/')}/{expected}" if expected else ""
            if not expected:
                known = [name for name in names if name]
                allowed = known[0] if len(set(known)) == 1 else ""
                if len(set(known)) <= 1 and "" not in names:
                    continue
            for endpoint, name in zip(endpoints, names, strict=True):
                if name == allowed and name:
                    continue
                key = (topic, bytes(endpoint.endpoint_gid))
                seen[key] = self._seen.get(key, now)
                if now - seen[key] >= (NAMED_FOR if name else UNNAMED_FOR):
                    found.append(f"{name or 'a participant without a name'} publishes on {topic}")
        self._seen = seen
        self.problem = "; ".join(sorted(set(found)))
        return self.problem

    def _full(self, endpoint: object) -> str:
        name, key = str(getattr(endpoint, "node_name", "")), bytes(getattr(endpoint, "endpoint_gid", b""))
        if name in _UNKNOWN:
            return self._names.get(key, "")
        self._names[key] = f"{str(getattr(endpoint, 'node_namespace', '')).rstrip('/')}/{name}"
        return self._names[key]
