"""Damaged bags: cut, flipped, split, without metadata; every whole chunk is recovered, and it is said what is lost."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rosbags.rosbag2 import Reader

from crl_node.bags import metadata
from crl_node.bags.metadata import BagError, TopicInfo
from crl_node.bags.profile import load_record_profile, parse_topic
from crl_node.bags.reader import BagReader
from crl_node.bags.repair import recover_bag
from crl_node.bags.scan import first_metadata
from crl_node.bags.survey import check, survey
from crl_node.bags.thread import WriterThread
from crl_node.bags.writer import BagWriter, DiskFullError
from crl_node.parameter_spec import ParameterError
from tests.support.synthetic_run import Messages, definitions

STEP = "crl_interfaces/msg/StepReport"
NEEDED = {"camera/image_raw": "camera/image_raw"}


@pytest.fixture(scope="module")
def messages() -> Messages:
    return Messages()


def write(
    folder: Path, messages: Messages, count: int, *, gap_at: int = -1, close: bool = True, **options: object
) -> Path:
    """A bag of `count` step reports, ten a second, 500 bytes of text each; a second is missing at `gap_at`."""
    writer = BagWriter(
        folder, definitions=definitions(), min_free_bytes=0, **{"chunk_bytes": 4096, **options}
    )
    writer.add_topic(TopicInfo("/learner/report", STEP))
    writer.note({metadata.PARAMETERS: json.dumps({"/learner": {"seed": 7}})})
    for n in range(count):
        t = 0.1 * n + (1.0 if 0 <= gap_at <= n else 0.0)
        data = messages.bytes(
            messages.make(STEP, header=messages.header(t), step=n, note=f"{n} " + "x" * 500)
        )
        writer.write("/learner/report", data, log_time=round(t * 1e9), sequence=n + 1)
    if close:
        writer.close(
            {
                metadata.TOPICS: json.dumps(
                    {"/learner/report": {"sent": count, "received": count, "dropped": 0}}
                )
            }
        )
    else:
        writer._hand_over()  # killed here: what the kernel has is what is left
    return folder


def steps(folder: Path) -> list[int]:
    return [m.message.step for m in BagReader(folder).messages(["learner/report"])]


def middle_chunk(data: bytes | bytearray, compression: str) -> int:
    """First byte of a chunk in the middle of a file: the name of its compression stands 37 bytes behind it."""
    return data.find(len(compression).to_bytes(4, "little") + compression.encode(), len(data) // 3) - 37


def sentences(folder: Path) -> str:
    return "\n".join(f.sentence for f in check(survey(folder), {}))


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_flipped_bit_costs_its_own_chunk_and_no_other(
    tmp_path: Path, messages: Messages, compression: str
) -> None:
    bag = write(tmp_path / "bag", messages, 200, compression=compression)
    file = bag / "bag_0.mcap"
    data = bytearray(file.read_bytes())
    data[middle_chunk(data, compression) + 80] ^= 0x40
    file.write_bytes(data)
    before = steps(bag)
    assert 200 - 2 * 9 <= len(before) < 200  # a chunk holds eight of these
    assert "is damaged" in sentences(bag)
    result = recover_bag(bag)
    assert result.messages == len(before) and result.rewritten == ("bag_0.mcap",)
    assert steps(bag) == before
    assert "is damaged" not in sentences(bag)
    with Reader(bag) as reader:
        assert reader.message_count == len(before)


def test_a_torn_length_is_read_around(tmp_path: Path, messages: Messages) -> None:
    """The length of one record is nonsense: reading goes on with the next record that is a chunk."""
    bag = write(tmp_path / "bag", messages, 200)
    file = bag / "bag_0.mcap"
    data = bytearray(file.read_bytes())
    chunk = middle_chunk(data, "lz4")
    data[chunk + 1 : chunk + 9] = (2**40).to_bytes(8, "little")
    file.write_bytes(data)
    assert 200 - 2 * 9 <= len(steps(bag)) < 200
    assert "the next whole chunk at byte" in sentences(bag)


def test_every_complete_chunk_of_a_split_bag_is_recovered_with_its_settings(
    tmp_path: Path, messages: Messages
) -> None:
    bag = write(tmp_path / "bag", messages, 200, split_seconds=5.0, close=False)
    assert [p.name for p in metadata.mcap_files(bag)] == [f"bag_{n}.mcap" for n in range(4)]
    (bag / "metadata.yaml").unlink()
    expected = steps(bag)
    assert len(expected) > 190
    words = sentences(bag)
    assert "bag_3.mcap ends in the middle of a record" in words and "metadata.yaml is missing" in words
    result = recover_bag(bag, tmp_path / "whole")
    assert result.messages == len(expected) and result.rewritten == ("bag_3.mcap",)
    assert (bag / "metadata.yaml").exists() is False  # the damaged one stays as it is
    information = yaml.safe_load((tmp_path / "whole" / "metadata.yaml").read_text())[
        "rosbag2_bagfile_information"
    ]
    assert information["version"] == 9 and len(information["relative_file_paths"]) == 4
    assert json.loads(BagReader(tmp_path / "whole").custom[metadata.PARAMETERS]) == {"/learner": {"seed": 7}}
    for path in metadata.mcap_files(tmp_path / "whole"):  # each says by itself what it belongs to
        assert metadata.PARAMETERS in first_metadata(path, metadata.RECORD)
    with Reader(tmp_path / "whole") as reader:
        assert reader.message_count == len(expected)
    with pytest.raises(BagError, match="exists already"):
        recover_bag(bag, tmp_path / "whole")


def test_files_are_split_by_time_and_by_size_and_read_in_their_order(
    tmp_path: Path, messages: Messages
) -> None:
    by_time = write(tmp_path / "time", messages, 120, split_seconds=1.0)
    assert len(metadata.mcap_files(by_time)) == 12  # more than ten: their numbers count, not their names
    assert steps(by_time) == list(range(120))
    by_size = write(tmp_path / "size", messages, 100, split_bytes=4000, chunk_bytes=512, compression="none")
    assert len(metadata.mcap_files(by_size)) > 5
    assert max(p.stat().st_size for p in metadata.mcap_files(by_size)) < 20_000
    with Reader(by_time) as reader:
        assert reader.message_count == 120


def test_check_tells_of_gaps_losses_and_what_a_replay_lacks(tmp_path: Path, messages: Messages) -> None:
    bag = write(tmp_path / "bag", messages, 100, gap_at=50, close=False)
    counts = {
        "stopped_because": "",
        "topics": {"/learner/report": {"sent": 125, "received": 100, "dropped": 0}},
    }
    (bag / "recorder.json").write_text(json.dumps(counts))
    recover_bag(bag)
    words = "\n".join(f.sentence for f in check(survey(bag), NEEDED))
    assert "1 gaps; nothing for 1.10 s from 4.90 s on (it comes every 0.1 s)" in words
    assert "of 125 messages sent are not in the bag" in words
    assert (
        "'camera/image_raw' is missing (camera/image_raw has no message): the bag cannot be replayed" in words
    )


def test_a_whole_bag_has_nothing_wrong_with_it(tmp_path: Path, messages: Messages) -> None:
    bag = write(tmp_path / "bag", messages, 50)
    assert check(survey(bag), {}) == []
    found = survey(bag).as_json()
    assert found["topics"]["/learner/report"]["messages"] == 50
    assert found["topics"]["/learner/report"]["sent"] == 50
    assert found["topics"]["/learner/report"]["rate"] == pytest.approx(10.0)


def test_missing_and_unnamed_files_are_named(tmp_path: Path, messages: Messages) -> None:
    bag = write(tmp_path / "bag", messages, 100, split_seconds=5.0)
    (bag / "bag_1.mcap").rename(bag / "bag_7.mcap")
    words = sentences(bag)
    assert "bag_1.mcap is named in metadata.yaml but is not there" in words
    assert "bag_7.mcap is not named in metadata.yaml" in words


def test_what_is_no_bag_is_said(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="does not exist"):
        survey(tmp_path / "nothing")
    with pytest.raises(BagError, match=r"holds no \.mcap file"):
        recover_bag(tmp_path)
    (tmp_path / "bag_0.mcap").write_bytes(b"")
    assert "bag_0.mcap is empty" in sentences(tmp_path)


FULL = """
import json, resource, sys
from pathlib import Path
from crl_node.bags.metadata import TopicInfo
from crl_node.bags.thread import WriterThread
from crl_node.bags.writer import BagWriter
from tests.support.synthetic_run import Messages, definitions
messages = Messages()
writer = BagWriter(Path(sys.argv[1]), definitions=definitions(), min_free_bytes=0, chunk_bytes=4096, compression="none")
writer.add_topic(TopicInfo("/learner/report", "crl_interfaces/msg/StepReport"))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # the kernel refuses more, as a full disk does
said = []
thread = WriterThread(writer, flush_period=0.05, backlog=lambda: 10**9, min_free=lambda: 0, on_error=said.append)
data = messages.bytes(messages.make("crl_interfaces/msg/StepReport", note="x" * 500))
accepted = sum(thread.put("/learner/report", data, received=n, sent=n, sequence=n) for n in range(1000))
thread.written(60.0)
after = thread.put("/learner/report", data, received=0, sent=0, sequence=0)
thread.end(60.0)
print(json.dumps({"said": said, "after": after, "dropped": thread.dropped["/learner/report"], "counts": writer.counts}))
"""


def test_a_disk_that_is_really_full_stops_recording_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "bag")], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert "writing failed" in told["said"][0] and "the rest of the system is not affected" in told["said"][0]
    assert told["after"] is False  # nobody waits for a recorder that has stopped
    read = steps(tmp_path / "bag")
    assert len(read) > 100
    recover_bag(tmp_path / "bag")
    assert steps(tmp_path / "bag") == read
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_the_space_to_keep_free_can_be_changed_while_recording(tmp_path: Path, messages: Messages) -> None:
    writer = BagWriter(tmp_path / "bag", definitions=definitions(), min_free_bytes=0)
    writer.add_topic(TopicInfo("/learner/report", STEP))
    keep, said = [0], list[str]()
    thread = WriterThread(
        writer, flush_period=0.01, backlog=lambda: 10**9, min_free=lambda: keep[0], on_error=said.append
    )
    data = messages.bytes(messages.make(STEP, step=1))
    assert thread.put("/learner/report", data, received=1, sent=1, sequence=1)
    assert thread.written(60.0) and not thread.stopped_because
    keep[0] = 10**18
    assert thread.written(60.0)  # one flush looks at the disk with the old number, the next with the new one
    assert thread.written(60.0)
    assert "are kept free; recording stopped" in thread.stopped_because and len(said) == 1
    assert not thread.put("/learner/report", data, received=2, sent=2, sequence=2)
    thread.end(60.0)
    with Reader(tmp_path / "bag") as reader:  # closed whole while there was space
        assert reader.message_count == 1


def test_a_writer_s_default_keeps_a_gigabyte_free(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="1000 MB are kept free"):
        BagWriter(tmp_path / "bag", definitions=definitions(), free_bytes=lambda _: 999_000_000)


def test_recording_profiles_name_topics_and_patterns(tmp_path: Path) -> None:
    everything = load_record_profile("everything")
    assert everything.includes("/any/topic") and not everything.includes("/x/_action/status")
    loop = load_record_profile("loop")
    assert "sim/ground_truth" in {t.name for t in loop.topics} and not loop.includes("/any/topic")
    more = loop.extended(topics=(), include=["/arm_.*/state"], exclude=["/arm_2/.*"])
    assert more.includes("/arm_1/state") and not more.includes("/arm_2/state")
    assert parse_topic("a pkg/msg/Type transient_local") == TopicInfo(
        "a", "pkg/msg/Type", transient_local=True
    )
    assert parse_topic("a best_effort") == TopicInfo("a", "", reliable=False)
    for wrong in ("a b/C", "", "a pkg/msg/Type sometimes"):
        with pytest.raises(ParameterError, match="must read"):
            parse_topic(wrong)
    with pytest.raises(ParameterError, match="no regular expression"):
        loop.extended(topics=(), include=["("], exclude=[])
    (tmp_path / "mine.yaml").write_text("topic: [a]\n")
    with pytest.raises(ParameterError, match="must map"):
        load_record_profile(str(tmp_path / "mine.yaml"))
    with pytest.raises(ParameterError, match="there is everything, input, loop"):
        load_record_profile("nothing")
