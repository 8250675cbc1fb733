"""The report of a made-up run: complete, partial, cut off, empty."""

import html.parser
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from crl_node.camera import Camera
from crl_node.curiosity.goals import Goal
from crl_node.data import TermKind
from crl_node.evaluation.contact import Pushes
from crl_node.evaluation.run import RunData
from crl_node.evaluation.timing import STAGES
from crl_node.report import build, summary
from crl_node.report.animation import LIMIT, busiest, draw_frame, ellipse, encode
from crl_node.report.build import ReportError
from crl_node.report.collect import series
from crl_node.report.words import sentence
from tests.support.plan_inputs import belief_of
from tests.support.synthetic_run import NAMES, START, write_run

#: What report.json holds at least.
REQUIRED = {
    "posterior_hash", "world", "seed", "policy", "seconds", "ticks", "latency_ms", "slots", "contact_r2", "edges",
    "edge_auroc", "information_gain", "moved", "providers", "versions", "bag",
}  # fmt: skip


def no_simulation() -> Pushes:
    """One push of the red cube, so that nothing has to be simulated."""
    before = np.repeat(START[None], 3, 0)
    after = before.copy()
    after[:, 0, 1] += [0.02, 0.02, 0.0]
    tip = START[0] - np.array([[0.0, 0.04], [0.0, 0.045], [0.0, 0.2]])
    action, contact = np.tile([0.0, 0.2], (3, 1)), np.zeros((3, 4), bool)
    contact[:, 0] = True
    return Pushes(NAMES, before, np.zeros_like(before), after, tip, np.zeros((3, 2)), action, contact)


def text_of(report: dict[str, Any]) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(summary(report))
    return console.export_text()


class Collector(html.parser.HTMLParser):
    """Sources of all images, and anything that would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = write_run(tmp_path_factory.mktemp("built") / "run")
    return folder, build(folder, pushes=no_simulation())


def test_report_json_holds_what_its_schema_says(built: tuple[Path, dict[str, Any]]) -> None:
    folder, report = built
    written = json.loads((folder / "report.json").read_text())
    assert written == json.loads(json.dumps(report))
    assert set(written) >= REQUIRED
    assert set(written["latency_ms"]) == set(STAGES)
    assert written["slots"][0]["object"] == "red_cube"
    assert set(written["information_gain"]) == {"structure", "parameters", "states"}
    assert written["information_gain"]["structure"][0] == [0.0, 5.0]
    assert written["bag"]["/learner/belief"] == {"sent": 70, "recorded": 70}
    assert written["ticks"]["missed"] == 0
    assert written["memory_mb"] == {"learner": 321.0}
    assert written["contact_r2"] > 0.9
    assert written["notes"] == []


def test_every_key_of_the_report_is_documented(built: tuple[Path, dict[str, Any]]) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text()
    assert [key for key in built[1] if f"`{key}`" not in text] == []


def test_the_run_folder_holds_every_file_that_was_promised(built: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = built
    names = {path.name for path in folder.iterdir()}
    assert {
        "bag",
        "run.json",
        "report.json",
        "report.html",
        "graph.png",
        "animation.gif",
        "model.onnx",
    } <= names
    assert "model_card.md" in names
    assert not [name for name in names if name.startswith(".")]


def test_the_model_holds_what_the_run_knew_at_its_end(built: tuple[Path, dict[str, Any]]) -> None:
    from crl_node.export.onnx_model import verify

    folder, report = built
    assert verify(folder / "model.onnx").posterior_hash == report["posterior_hash"]
    assert report["posterior_hash"] in (folder / "model_card.md").read_text()


def test_the_page_needs_nothing_but_itself(built: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = built
    page = (folder / "report.html").read_text()
    collector = Collector()
    collector.feed(page)
    assert len(collector.sources) == 8
    assert all(source.startswith("data:image/") for source in collector.sources)
    assert "The pusher pushes the red cube away when nearer than 5.0 cm" in page
    assert "No picture" not in page


def test_the_animation_is_small_and_moves(built: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = built
    assert (folder / "animation.gif").stat().st_size < LIMIT
    with Image.open(folder / "animation.gif") as film:
        assert getattr(film, "n_frames", 1) > 10


def test_the_summary_reads_well_in_a_terminal(built: tuple[Path, dict[str, Any]]) -> None:
    text = text_of(built[1])
    assert "four_cubes, seed 0, policy curious" in text
    assert "0 of 70" in text
    assert "slot_1" in text


def test_a_run_without_ground_truth_gets_a_report_without_scores(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=12, leave_out=("/sim/ground_truth",))
    report = build(folder, pushes=no_simulation())
    assert report["slots"] == [] and report["contact_r2"] is None
    assert any("no ground truth was recorded" in note for note in report["notes"])
    assert "no ground truth was recorded" in (folder / "report.html").read_text()
    assert "no ground truth" in text_of(report)


def test_a_run_that_never_started_gets_a_report_that_says_so(tmp_path: Path) -> None:
    report = build(tmp_path)
    assert report["seconds"] == 0 and report["ticks"]["planned"] == 0
    assert any("does not exist" in note for note in report["notes"])
    assert any("run.json is missing" in note for note in report["notes"])
    assert (tmp_path / "report.html").is_file()
    assert text_of(report)


def test_a_cut_off_bag_is_reported_on_up_to_where_it_ends(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=40)
    bag = folder / "bag" / "bag_0.mcap"
    bag.write_bytes(bag.read_bytes()[: bag.stat().st_size // 2])
    report = build(folder, pushes=no_simulation())
    assert 1.0 < report["seconds"] < 3.0
    assert any("ends in the middle of a record" in note for note in report["notes"])


def test_a_folder_that_is_not_there_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"nothing does not exist; name the folder"):
        build(tmp_path / "nothing")


def test_a_part_that_fails_leaves_the_others_standing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "run", steps=12)

    def broken(*_: object) -> None:
        raise RuntimeError("the pen broke")

    monkeypatch.setattr("crl_node.report.plots.edge_maps", broken)
    report = build(folder, pushes=no_simulation())
    assert any("could not be made: the pen broke" in note for note in report["notes"])
    assert (folder / "graph.png").is_file()


def test_numbers_that_json_cannot_hold_are_null(built: tuple[Path, dict[str, Any]]) -> None:
    from crl_node.report.collect import _plain

    assert _plain({"a": float("nan"), "b": [np.float64("inf"), np.int64(3)]}) == {"a": None, "b": [None, 3]}


def test_long_series_are_thinned_and_holes_left_out() -> None:
    points = series([(0.1 * n, float(n) if n else float("nan")) for n in range(10_000)])
    assert len(points) == 2000
    assert points[0] == [0.1, 1.0] and points[-1] == [999.9, 9999.0]


@pytest.mark.parametrize("kind", list(TermKind))
def test_every_mechanism_has_words(kind: TermKind) -> None:
    text = sentence(kind, "the button", "the lamp", 0.05, 0.9)
    assert text[0].isupper() and "lamp" in text.lower()


def test_a_goal_is_drawn_where_the_thing_is_wanted_while_there_is_one() -> None:
    camera = Camera.look_at(eye=np.array([1.25, 0, 1.05]), target=np.array([0.6, 0, 0]), fov_y=0.6, width=96, height=96)
    belief, picture = belief_of(np.array([[0.5, 0.0], [0.6, -0.1]])), np.zeros((96, 96, 3), np.uint8)
    goal = Goal(1, "red", (0.65, 0.12))
    with_it = np.asarray(draw_frame(picture, camera, belief, None, {}, "", (goal,)), int)
    without = np.asarray(draw_frame(picture, camera, belief, None, {}, ""), int)
    changed = np.abs(with_it - without).sum(axis=-1) > 0
    (column, row), (x, y) = (4 * camera.project(np.array([[*p, 0.0]]))[0] for p in (goal.place, (0.6, -0.1)))
    assert changed[round(row), round(column)]
    assert changed[round((row + y) / 2) - 2 : round((row + y) / 2) + 3, round((column + x) / 2)].any()


def test_goals_of_a_run_hold_from_the_plan_after_they_were_set_until_they_are_reached() -> None:
    red = Goal(2, "red", (0.6, 0.0))
    run = RunData(goals=[(1.0, (red,), "set"), (2.0, (), "reached")])
    assert [run.goals_at(t) for t in (0.9, 1.0, 1.1, 2.0, 2.1)] == [(), (), (red,), (red,), ()]


def test_the_animation_shows_when_most_happened(built: tuple[Path, dict[str, Any]]) -> None:
    from crl_node.bags.messages import Truth

    def at(t: float) -> Truth:
        y = min(max(t - 20.0, 0.0), 3.0) * 0.05  # moves from 20 s to 23 s
        return Truth(t, np.zeros(2), ("a",), np.array([[0.5, y]]), np.zeros((1, 2)), np.zeros(1), ((),))

    stamps = [0.1 * n for n in range(600)]
    chosen = busiest([at(t) for t in stamps], stamps, frames=50)
    assert len(chosen) == 50
    assert chosen.start <= 201 and chosen.stop >= 230


def test_a_covariance_ellipse_has_its_axes_where_the_doubt_is() -> None:
    outline = ellipse(np.array([1.0, 2.0]), np.diag([0.04, 0.01]), 3.0, points=100)
    assert np.ptp(outline[:, 0]) == pytest.approx(2 * 3 * 0.2, rel=0.01)
    assert np.ptp(outline[:, 1]) == pytest.approx(2 * 3 * 0.1, rel=0.01)


def test_an_animation_that_is_too_large_loses_colours_and_frames() -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(12)]
    full = encode(frames)
    assert len(encode(frames, limit=len(full) // 2)) < len(full) // 2
