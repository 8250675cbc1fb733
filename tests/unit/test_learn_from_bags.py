"""`crl learn`: many bags, one model; the order of the bags does not matter, nor how they are put together."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from crl_node.bags.reader import BagReader
from crl_node.data import MAX_SLOTS, Posterior
from crl_node.replay.episode import fit
from crl_node.replay.identity import Seen, match
from crl_node.replay.learn import Learned, _common, learn
from crl_node.replay.perceive import episodes
from crl_node.replay.pooling import absorb, adopt
from crl_node.replay.settings import ReplayError, read_settings
from crl_node.world_model import WorldModel
from tests.support.recorded_pushes import record_pushes

BAGS, STEPS = 3, 20


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("learn")
    return [
        record_pushes(folder / f"bag{n}", seed=n, steps=STEPS, start=100.0 + 1000 * n) for n in range(BAGS)
    ]


@pytest.fixture(scope="module")
def learned(bags: list[Path]) -> Learned:
    return learn(bags)


def largest_difference(a: Posterior, b: Posterior) -> float:
    """Over every tensor of the posterior."""
    names = [f.name for f in fields(Posterior) if f.name != "hash"]
    return max(
        float(np.abs(np.asarray(getattr(a, n), float) - np.asarray(getattr(b, n), float)).max())
        for n in names
    )


def test_the_four_cubes_of_all_bags_are_four_variables(learned: Learned) -> None:
    assert [len(group) for group in learned.groups] == [BAGS] * 4
    assert learned.episodes == BAGS and learned.notes == []
    assert learned.frames.used == BAGS * STEPS
    assert 0 < learned.model.step <= BAGS * (STEPS - 1)


def test_the_order_of_the_bags_and_the_number_of_processes_do_not_matter(
    bags: list[Path], learned: Learned
) -> None:
    other = learn(list(reversed(bags)), jobs=2)
    assert largest_difference(other.posterior, learned.posterior) <= 1e-9
    assert other.posterior.hash == learned.posterior.hash


def test_merged_bags_give_the_same_posterior(bags: list[Path], learned: Learned, tmp_path: Path) -> None:
    """All files in one folder, the last first: the clock goes back in between, as in a merged bag."""
    merged = tmp_path / "merged"
    merged.mkdir()
    for number, bag in enumerate(reversed(bags)):
        shutil.copy(bag / f"{bag.name}_0.mcap", merged / f"merged_{number}.mcap")
    other = learn([merged])
    assert other.episodes == BAGS
    assert largest_difference(other.posterior, learned.posterior) <= 1e-9


def test_sums_in_another_order_give_the_same_posterior_to_1e_9(bags: list[Path]) -> None:
    """`learn` adds in a fixed order; this does not: floats then differ in their last bits, and no more than that."""
    parts = [part for bag in bags for part in episodes(bag, read_settings(BagReader(bag)))[0]]
    groups, _ = match([slot for part in parts for slot in part.seen()])
    extents, distances = _common(parts, groups)

    def model(order: list[int]) -> WorldModel:
        total = WorldModel(parts[0].config, 0)
        adopt(total, extents, distances)
        for n in order:
            names = {s.slot: k for k, g in enumerate(groups, 1) for s in g if s.episode == parts[n].digest}
            absorb(total, fit(parts[n], names, extents, distances, 0))
        total.refresh_all()
        return total

    one, two = model([0, 1, 2]), model([2, 0, 1])
    assert not np.array_equal(one.motion.statistics.gram, two.motion.statistics.gram)
    assert largest_difference(one.posterior(), two.posterior()) <= 1e-9


def test_models_of_other_variables_are_not_added() -> None:
    one, two = WorldModel(), WorldModel()
    adopt(one, {0: 0.015, 1: 0.03}, np.zeros((2, 2)))
    adopt(two, {0: 0.015, 1: 0.04}, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="other variables"):
        absorb(one, two)
    with pytest.raises(ValueError, match="not adopted"):
        adopt(one, {0: 0.015}, np.zeros((1, 1)))


def test_a_bag_that_is_none_is_an_error_not_a_smaller_model(bags: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="no bag was named"):
        learn([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError, match=r"holds no \.mcap file"):
        learn([bags[0], tmp_path / "empty"])


def test_bags_of_different_tables_do_not_add(bags: list[Path], tmp_path: Path) -> None:
    other = record_pushes(tmp_path / "other", world="tabletop", seed=0, steps=8)
    with pytest.raises(ReplayError, match="different set-ups"):
        learn([bags[0], other])


def seen(
    episode: str, slot: int, colour: tuple[float, float, float], extent: float = 0.03, frames: int = 10
) -> Seen:
    return Seen(episode, slot, colour, extent, frames)


RED, GREEN, BLUE = (0.8, 0.05, 0.05), (0.05, 0.8, 0.05), (0.05, 0.05, 0.8)


def named(groups: list[list[Seen]]) -> set[frozenset[tuple[str, int]]]:
    return {frozenset((s.episode, s.slot) for s in group) for group in groups}


def test_things_are_recognised_in_shade_and_whatever_comes_first() -> None:
    slots = [
        seen("a", 1, RED), seen("a", 2, GREEN), seen("b", 1, (0.06, 0.6, 0.05)), seen("b", 2, (0.5, 0.03, 0.04)),
        seen("c", 9, RED, extent=0.034), seen("c", 4, BLUE),
    ]  # fmt: skip
    expected = {
        frozenset({("a", 1), ("b", 2), ("c", 9)}), frozenset({("a", 2), ("b", 1)}), frozenset({("c", 4)}),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(len(slots))
        groups, notes = match([slots[i] for i in order])
        assert named(groups) == expected and notes == []
        assert [len(g) for g in groups] == [3, 2, 1]


def test_a_big_and_a_small_thing_of_one_colour_are_two() -> None:
    groups, _ = match(
        [seen("a", 1, RED, 0.02), seen("a", 2, RED, 0.05), seen("b", 1, RED, 0.05), seen("b", 2, RED, 0.02)]
    )
    assert named(groups) == {frozenset({("a", 1), ("b", 2)}), frozenset({("a", 2), ("b", 1)})}


def test_twins_cannot_be_told_apart_and_it_is_said() -> None:
    slots = [
        seen("a", 1, RED),
        seen("a", 2, RED),
        seen("b", 1, RED),
        seen("a", 3, GREEN),
        seen("b", 2, GREEN),
    ]
    groups, notes = match(slots)
    assert len(groups) == 4 and max(len(g) for g in groups) == 2
    assert "3 slots look like another thing of the same recording" in notes[0]


def test_more_things_than_the_model_holds_are_left_out_by_how_little_they_were_seen() -> None:
    hues = [(0.02 + 0.9 * t, 0.5, 0.92 - 0.9 * t) for t in np.linspace(0, 1, 4)]
    slots = [
        seen("a", 10 * i + j, hue, extent=0.02 + 0.02 * j, frames=100 - 10 * i - j)
        for i, hue in enumerate(hues)
        for j in range(4)
    ]
    groups, notes = match(slots)
    assert len(groups) == MAX_SLOTS - 1
    assert "there are 16 things and the model holds 11: the 5 seen least" in notes[0]
    assert min(sum(s.frames for s in g) for g in groups) >= 78
