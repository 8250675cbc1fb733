"""How much of what was sent is in a bag whose recorder was killed with -9: real nodes, real DDS, random moments.

`python benchmarks/bag_recovery.py --kills 10`: a camera (96x96, 30 frames a second) and joint states (100 a second) are
published; the recorder is killed; the bag is recovered with `recover_bag` and compared with what had been sent by then.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from crl_node.bags.reader import BagReader
from crl_node.bags.repair import recover_bag
from crl_node.bags.survey import check, survey
from crl_node.system import NodeSpec, lease_domain, node_command, ros_environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--flush-period", type=float, default=1.0, help="s")
    options = parser.parse_args()
    lease = lease_domain()
    environment = ros_environment(lease.domain_id)
    os.environ.update(environment)
    import rclpy
    from sensor_msgs.msg import Image, JointState

    rclpy.init()
    node = rclpy.create_node("publisher")
    rng, rows = random.Random(0), []
    frame = Image(height=96, width=96, encoding="rgb8", step=288)
    frame.data = array.array("B", rng.randbytes(27648))  # noise: the hardest to compress
    joints = JointState(name=[f"joint_{n}" for n in range(7)], position=[0.0] * 7, velocity=[0.0] * 7)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.kills):
            bag = Path(scratch) / f"bag{number}"
            # Names of their own: the dead recorder's subscriptions count until their lease is over.
            names = {"image": f"/camera_{number}/image_raw", "joints": f"/arm_{number}/joint_states"}
            parameters = {
                "output": str(bag), "min_free": 0, "autostart": True, "flush_period": options.flush_period,
                "topics": [f"{names['image']} sensor_msgs/msg/Image", f"{names['joints']} sensor_msgs/msg/JointState"],
            }  # fmt: skip
            command = node_command(NodeSpec("recorder", "recorder", parameters), log_level="error")
            process = subprocess.Popen(command, env=environment)
            images = node.create_publisher(Image, names["image"], 100)
            states = node.create_publisher(JointState, names["joints"], 100)
            while not (images.get_subscription_count() and states.get_subscription_count()):
                time.sleep(0.05)
            sent = {"image": 0, "joints": 0}
            began, ends = time.monotonic(), rng.uniform(3.0, 8.0)
            while (now := time.monotonic() - began) < ends:
                if now * 30 >= sent["image"]:
                    frame.header.stamp.sec, frame.header.stamp.nanosec = divmod(round(now * 1e9), 10**9)
                    images.publish(frame)
                    sent["image"] += 1
                if now * 100 >= sent["joints"]:
                    joints.header.stamp.sec, joints.header.stamp.nanosec = divmod(round(now * 1e9), 10**9)
                    states.publish(joints)
                    sent["joints"] += 1
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.wait()
            node.destroy_publisher(images)
            node.destroy_publisher(states)
            before = sum(1 for _ in BagReader(bag).raw())
            cut = [f.sentence for f in check(survey(bag), {}) if "ends in the middle" in f.sentence]
            result = recover_bag(bag)
            stamps = [m.message.header.stamp for m in BagReader(bag).messages([names["joints"]])]
            last = stamps[-1].sec + stamps[-1].nanosec * 1e-9
            rows.append(
                {"seconds": round(ends, 2), "sent": sum(sent.values()), "readable": before,
                 "recovered": result.messages, "share": result.messages / sum(sent.values()),
                 "lost_seconds": round(ends - last, 3), "cut": bool(cut)}
            )  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    rclpy.shutdown()
    lease.release()
    share = sum(r["recovered"] for r in rows) / sum(r["sent"] for r in rows)
    lost = [r["lost_seconds"] for r in rows]
    print(json.dumps({
        "kills": len(rows), "flush_period": options.flush_period, "share_recovered": round(share, 5),
        "every_readable_message_recovered": all(r["readable"] == r["recovered"] for r in rows),
        "lost_seconds_median": statistics.median(lost), "lost_seconds_most": max(lost),
        "load_average": round(os.getloadavg()[0], 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
