"""Bags: written so that others can read them, read even when they are cut off, stopped by a full disk only."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from crl_node.bags.definitions import DefinitionError, Definitions
from crl_node.bags.messages import to_image, to_posterior
from crl_node.bags.metadata import BagError, TopicInfo
from crl_node.bags.reader import BagReader, wanted
from crl_node.bags.repair import repair_bag
from crl_node.bags.sent import SentCounter
from crl_node.bags.writer import BagWriter, DiskFullError
from tests.support.synthetic_run import Messages, definitions, posterior, write_run

IMAGE, POSTERIOR = "sensor_msgs/msg/Image", "crl_interfaces/msg/Posterior"


def image(messages: Messages, seed: int) -> bytes:
    data = np.random.default_rng(seed).integers(0, 255, 96 * 96 * 3).astype(np.uint8)
    return messages.bytes(messages.make(IMAGE, height=96, width=96, step=288, encoding="rgb8", data=data))


@pytest.fixture(scope="module")
def messages() -> Messages:
    return Messages()


def open_bag(folder: Path, **options: object) -> BagWriter:
    options.setdefault("min_free_bytes", 0)
    writer = BagWriter(folder, definitions=definitions(), **options)  # type: ignore[arg-type]
    writer.add_topic(TopicInfo("/camera/image_raw", IMAGE))
    return writer


def test_definitions_carry_every_type_they_use() -> None:
    text = definitions().text("crl_interfaces/msg/Plan")
    types = get_types_from_msg(text, "crl_interfaces/msg/Plan")
    assert {
        "crl_interfaces/msg/InformationGain",
        "geometry_msgs/msg/Point",
        "builtin_interfaces/msg/Time",
    } <= set(types)


def test_an_unknown_type_is_refused_with_the_folders_that_were_searched(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"no_such/msg/Thing.*has no definition.*looked in"):
        Definitions([tmp_path]).text("no_such/msg/Thing")
    with pytest.raises(DefinitionError, match="is not a message type of the form pkg/msg/Name"):
        definitions().text("Image")


def test_type_hashes_are_those_of_rosidl() -> None:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definitions().text(IMAGE), IMAGE))
    assert definitions().type_hash(IMAGE) == store.hash_rihs01(IMAGE)
    assert Definitions([Path(sys.prefix)]).type_hash(IMAGE) == ""


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_rosbags_opens_a_closed_bag_with_custom_types(
    tmp_path: Path, messages: Messages, compression: str
) -> None:
    run = tmp_path / "run"
    with open_bag(run / "bag", compression=compression) as writer:
        for n in range(10):
            writer.write("/camera/image_raw", image(messages, n), log_time=1000 + n, sequence=n + 1)
        writer.custom["crl_node.topics"] = "{}"
    with Reader(run / "bag") as reader:
        assert reader.message_count == 10
        assert [c.msgcount for c in reader.connections] == [10]
        assert reader.connections[0].digest == definitions().type_hash(IMAGE)
        assert sum(1 for _ in reader.messages()) == 10
        assert (reader.start_time, reader.duration) == (1000, 10)


def test_rosbags_decodes_every_topic_of_a_run(tmp_path: Path) -> None:
    bag = write_run(tmp_path / "run", steps=12) / "bag"
    store = get_typestore(Stores.EMPTY)
    seen: dict[str, int] = {}
    with Reader(bag) as reader:
        for connection in reader.connections:
            types = get_types_from_msg(connection.msgdef.data, connection.msgtype)
            store.register({k: v for k, v in types.items() if k not in store.fielddefs})
        for connection, _, data in reader.messages():
            store.deserialize_cdr(data, connection.msgtype)
            seen[connection.topic] = seen.get(connection.topic, 0) + 1
        assert seen == {c.topic: c.msgcount for c in reader.connections}
    assert seen["/learner/belief"] == 12


def test_metadata_is_there_from_the_moment_the_bag_is_open(tmp_path: Path) -> None:
    writer = open_bag(tmp_path / "bag")
    information = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())[
        "rosbag2_bagfile_information"
    ]
    assert information["version"] == 9
    assert information["topics_with_message_count"][0]["topic_metadata"]["name"] == "/camera/image_raw"
    writer.close()
    assert not list((tmp_path / "bag").glob(".*tmp"))


def test_chunks_of_camera_frames_are_no_larger_than_64_kb(tmp_path: Path, messages: Messages) -> None:
    from mcap.reader import make_reader

    with open_bag(tmp_path / "bag") as writer:
        for n in range(20):
            writer.write("/camera/image_raw", image(messages, n), log_time=n)
    with (tmp_path / "bag" / "bag_0.mcap").open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    assert max(index.uncompressed_size for index in summary.chunk_indexes) <= 64 * 1024


def test_a_small_chunk_is_written_out_after_the_flush_period(tmp_path: Path, messages: Messages) -> None:
    now = [0.0]
    writer = open_bag(tmp_path / "bag", clock=lambda: now[0], flush_period=1.0, chunk_bytes=10**9)
    writer.write("/camera/image_raw", image(messages, 0), log_time=1)
    now[0] = 1.5
    writer.write("/camera/image_raw", image(messages, 1), log_time=2)
    reader = BagReader(tmp_path / "bag")  # while it is still being written
    assert reader.topics()["/camera/image_raw"][1] == 2
    writer.close()


def test_a_cut_off_file_gives_back_every_complete_chunk_and_says_so(
    tmp_path: Path, messages: Messages
) -> None:
    with open_bag(tmp_path / "bag", chunk_bytes=1) as writer:
        for n in range(10):
            writer.write("/camera/image_raw", image(messages, n), log_time=n)
        middle = (tmp_path / "bag" / "bag_0.mcap").stat().st_size
    path = tmp_path / "bag" / "bag_0.mcap"
    path.write_bytes(path.read_bytes()[: middle - 5000])
    reader = BagReader(tmp_path / "bag")
    stamps = [m.log_time for m in reader.messages()]
    assert stamps == list(range(len(stamps)))
    assert 7 <= len(stamps) < 10
    assert "ends in the middle of a record" in reader.notes[0]
    with pytest.raises(Exception, match=r"."):
        Reader(tmp_path / "bag").open()
    assert "ends in the middle of a record" in repair_bag(tmp_path / "bag")[0]
    with Reader(tmp_path / "bag") as whole:
        assert whole.message_count == len(stamps)


def test_a_damaged_chunk_does_not_pass_for_a_good_one(tmp_path: Path, messages: Messages) -> None:
    with open_bag(tmp_path / "bag", chunk_bytes=1, compression="none") as writer:
        for n in range(6):
            writer.write("/camera/image_raw", image(messages, n), log_time=n)
    path = tmp_path / "bag" / "bag_0.mcap"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    reader = BagReader(tmp_path / "bag")
    assert len(list(reader.raw())) < 6
    assert reader.notes


def test_a_bag_is_continued_in_a_second_file_after_its_recorder_was_killed(
    tmp_path: Path, messages: Messages
) -> None:
    first = open_bag(tmp_path / "bag", chunk_bytes=1)
    for n in range(5):
        first.write("/camera/image_raw", image(messages, n), log_time=n)
    first._hand_over()  # killed here: no index, no final metadata
    with pytest.raises(BagError, match="already holds bag_0.mcap; choose another folder"):
        open_bag(tmp_path / "bag")
    with open_bag(tmp_path / "bag", resume=True) as second:
        second.write("/camera/image_raw", image(messages, 5), log_time=5)
        assert second.counts == {"/camera/image_raw": 6}
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == 6
        assert sum(1 for _ in reader.messages()) == 6


def test_a_nearly_full_disk_stops_recording_and_keeps_what_was_written(
    tmp_path: Path, messages: Messages
) -> None:
    free, now = [10**9], [0.0]
    writer = open_bag(
        tmp_path / "bag",
        min_free_bytes=10**8,
        free_bytes=lambda _: free[0],
        clock=lambda: now[0],
        flush_period=1.0,
    )
    writer.write("/camera/image_raw", image(messages, 0), log_time=0)
    free[0], now[0] = 5 * 10**7, 2.0
    with pytest.raises(
        DiskFullError, match="50 MB are left on the disk and 100 MB are kept free; recording stopped"
    ):
        writer.write("/camera/image_raw", image(messages, 1), log_time=1)
    writer.close()
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == 2


def test_a_bag_that_cannot_be_written_says_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BagError, match=r"file/bag cannot be written: .*; nothing is recorded"):
        BagWriter(tmp_path / "file" / "bag", definitions=definitions())
    with pytest.raises(BagError, match="compression 'rar' is unknown, it must be one of none, lz4, zstd"):
        BagWriter(tmp_path / "bag", compression="rar")


def test_messages_for_unknown_topics_and_closed_bags_are_refused(tmp_path: Path, messages: Messages) -> None:
    writer = open_bag(tmp_path / "bag")
    with pytest.raises(BagError, match="topic '/elsewhere' was not added"):
        writer.write("/elsewhere", b"", log_time=0)
    writer.close()
    writer.close()  # twice is fine
    with pytest.raises(BagError, match="is closed; nothing more is recorded"):
        writer.write("/camera/image_raw", image(messages, 0), log_time=0)


def test_reading_what_is_no_bag_says_so(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="does not exist"):
        BagReader(tmp_path / "nothing")
    with pytest.raises(BagError, match="holds no .mcap file"):
        BagReader(tmp_path)
    (tmp_path / "bag_0.mcap").write_bytes(b"this is no MCAP file at all")
    reader = BagReader(tmp_path)
    assert list(reader.messages()) == []
    assert reader.notes


def test_a_posterior_survives_the_bag_with_its_hash(tmp_path: Path) -> None:
    from crl_node.posterior import check

    bag = write_run(tmp_path / "run", steps=20) / "bag"
    last = [m.message for m in BagReader(bag).messages(["learner/posterior"])][-1]
    read = to_posterior(last)
    check(read)
    assert read.hash == posterior().hash
    last.weight_mean = last.weight_mean[:-1]
    with pytest.raises(ValueError, match="'weight_mean' has 95 entries"):
        to_posterior(last)


def test_images_are_read_whatever_their_row_padding(messages: Messages) -> None:
    padded = np.zeros((2, 8), np.uint8)
    padded[:, :6] = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    message = messages.make(IMAGE, height=2, width=2, step=8, encoding="bgr8", data=padded.reshape(-1))
    assert to_image(message)[1, 1].tolist() == [12, 11, 10]
    message.encoding = "mono16"
    with pytest.raises(ValueError, match="encoding is 'mono16'"):
        to_image(message)


def test_topics_are_found_under_any_namespace() -> None:
    assert wanted("/arm_1/learner/belief", ["learner/belief"])
    assert wanted("/learner/belief", ["learner/belief"])
    assert not wanted("/other_learner/belief", ["learner/belief"])


def test_sent_messages_are_told_from_gaps_in_their_numbers() -> None:
    counter = SentCounter()
    for number in (1, 2, 5, 6):
        counter.saw(number)
    assert (counter.received, counter.sent) == (4, 6)


def test_two_publishers_of_one_topic_are_told_apart() -> None:
    counter = SentCounter()
    for number in (1, 1, 2, 2, 3, 3, 4):
        counter.saw(number)
    assert (counter.sent, counter.publishers) == (7, 2)


def test_a_restarted_publisher_counts_on() -> None:
    counter = SentCounter()
    for number in (1, 2, 3, 1, 2):
        counter.saw(number)
    assert counter.sent == 5


def test_messages_before_the_first_that_arrived_count_as_sent() -> None:
    counter = SentCounter()
    counter.saw(4)
    assert counter.sent == 4


def test_a_second_recorder_counts_on_when_the_publishers_lived_on() -> None:
    counter = SentCounter(earlier=100)
    counter.saw(121)
    assert counter.sent == 121


def test_a_second_recorder_adds_what_new_publishers_send() -> None:
    counter = SentCounter(earlier=100)
    assert counter.sent == 100
    counter.saw(1)
    counter.saw(2)
    assert counter.sent == 102


def test_without_sequence_numbers_nothing_is_claimed() -> None:
    counter = SentCounter()
    counter.saw(None)
    assert (counter.received, counter.sent) == (1, None)


def test_bags_evaluation_report_and_metrics_import_neither_rclpy_nor_torch() -> None:
    import subprocess

    code = (
        "import sys, crl_node.bags.reader, crl_node.bags.writer, crl_node.bags.repair, crl_node.bags.messages, "
        "crl_node.metrics, crl_node.evaluation.evaluate, crl_node.report\n"
        "assert not {'rclpy', 'torch', 'pybullet'} & set(sys.modules), set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
