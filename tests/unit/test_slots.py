"""The online slot model on drawn pictures: identities through occlusion, honest covariances, lamps, neighbours.

The pictures are discs standing in a plane that faces no one in particular: what is tested here needs no physics.
"""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.camera import Camera
from crl_node.data import Belief, Frame
from crl_node.perception.encoder import Encoder
from crl_node.perception.slots import SlotEncoder
from crl_node.perception.validate import FrameError

TABLE = (0.38, 0.82, -0.30, 0.30)
CAMERA = Camera.look_at(
    eye=np.array([1.25, 0.0, 1.05]),
    target=np.array([0.6, 0.0, 0.0]),
    fov_y=np.radians(34),
    width=96,
    height=96,
)
RED, GREEN, BLUE = (0.85, 0.1, 0.1), (0.1, 0.6, 0.15), (0.1, 0.2, 0.8)
FAR = np.array([0.3, 0.0, 0.5])  # a tip that is nowhere near
HEIGHT = 0.05


def draw(
    things: list[tuple[tuple[float, float], tuple[float, float, float]]], radius: float = 0.03
) -> np.ndarray:
    """Balls of `radius` m with their middle at HEIGHT / 2 above the table, drawn with 4x4 samples a pixel."""
    columns, rows = np.meshgrid((np.arange(384) + 0.5) / 4, (np.arange(384) + 0.5) / 4)
    image = np.full((384, 384, 3), (0.7, 0.68, 0.6))
    for (x, y), colour in sorted(things):
        centre = CAMERA.project(np.array([[x, y, HEIGHT / 2], [x, y + radius, HEIGHT / 2]]))
        size = np.linalg.norm(centre[1] - centre[0])
        image[(columns - centre[0, 0]) ** 2 + (rows - centre[0, 1]) ** 2 < size**2] = colour
    # the sample in each pixel's middle: a camera with hard edges, as the simulator's
    return (image[2::4, 2::4] * 255).astype(np.uint8)


class Watch:
    """An encoder and the clock of its frames."""

    def __init__(self) -> None:
        self.encoder = SlotEncoder(CAMERA, TABLE, 0.015)
        self.frames = 0

    def see(self, image: np.ndarray, capsules: list | None = None) -> Belief:
        belief = self.encoder.encode(
            Frame(0.1 * self.frames, image, {}), FAR, np.zeros(2), capsules if capsules is not None else []
        )
        self.frames += 1
        return belief


def wall(x: float, y: float, radius: float) -> list:
    """A capsule just above the table that hides what is behind it from the camera."""
    return [(np.array([x, y, 0.03]), np.array([x, y, 0.06]), radius)]


def paint_arm(image: np.ndarray, encoder: SlotEncoder, capsules: list) -> np.ndarray:
    painted = image.copy()
    painted[encoder.filter.mask(capsules)] = (20, 20, 20)
    return painted


def test_the_slot_encoder_is_an_encoder() -> None:
    assert isinstance(SlotEncoder(CAMERA, TABLE, 0.015), Encoder)


def test_every_thing_is_a_slot_within_three_frames_and_nothing_else_is() -> None:
    watch = Watch()
    places = [((0.5, -0.2), RED), ((0.6, 0.1), GREEN), ((0.7, 0.2), BLUE)]
    belief = [watch.see(draw(places)) for _ in range(3)][-1]
    assert len(belief.ids) == 4
    assert belief.ids[0] == 0 and belief.extent[0] == 0.015
    for (x, y), colour in places:
        nearest = int(np.argmin(np.linalg.norm(belief.mean[1:, :2] - (x, y), axis=1))) + 1
        assert np.linalg.norm(belief.mean[nearest, :2] - (x, y)) < 0.012  # a ball's height is hard to tell
        assert abs(belief.extent[nearest] - 0.03) < 0.005
        assert np.allclose(belief.colour[nearest], colour, atol=0.02)


def test_a_moving_thing_is_followed_without_lag_and_its_velocity_is_right() -> None:
    watch = Watch()
    for _ in range(5):
        watch.see(draw([((0.6, -0.2), RED)]))
    errors, velocities = [], []
    for step in range(1, 16):
        y = -0.2 + 0.02 * step
        belief = watch.see(draw([((0.6, y), RED)]))
        errors.append(belief.mean[1, 1] - y)
        velocities.append(belief.mean[1, 3])
    assert np.abs(np.array(errors)).max() < 0.005
    assert abs(velocities[0] - 0.2) < 0.05  # already in the first frame of the motion
    assert abs(np.mean(velocities) - 0.2) < 0.02
    stopped = [watch.see(draw([((0.6, 0.1), RED)])) for _ in range(2)][-1]
    assert abs(stopped.mean[1, 3]) < 0.02


def test_a_thing_at_rest_stands_still_in_the_belief() -> None:
    watch = Watch()
    seen = [belief.mean[1] for belief in [watch.see(draw([((0.55, 0.05), GREEN)])) for _ in range(20)][5:]]
    assert np.ptp(np.array(seen)[:, :2], axis=0).max() < 1e-4
    assert np.abs(np.array(seen)[:, 2:4]).max() < 1e-3


def test_identity_is_kept_and_covariance_grows_while_a_thing_is_hidden() -> None:
    watch = Watch()
    image = draw([((0.55, 0.05), GREEN), ((0.65, -0.2), RED)])
    before = [watch.see(image) for _ in range(5)][-1]
    row = int(np.argmin(np.abs(before.mean[1:, 1] - 0.05))) + 1
    arm = wall(0.57, 0.05, 0.07)
    hidden = paint_arm(image, watch.encoder, arm)
    during = [watch.see(hidden, arm) for _ in range(15)]
    traces = [np.trace(b.cov[row, :2, :2]) for b in during]
    assert all(np.array_equal(b.ids, before.ids) for b in during)
    assert during[-1].visible[row] < 0.1 and during[-1].existence[row] > 0.9
    assert traces[-1] > 4 * np.trace(before.cov[row, :2, :2])
    assert all(late > early for early, late in zip(traces[:-1], traces[1:], strict=True))
    after = [watch.see(image) for _ in range(3)][-1]
    assert np.array_equal(after.ids, before.ids)
    assert np.linalg.norm(after.mean[row, :2] - before.mean[row, :2]) < 0.002


def test_a_thing_moved_while_hidden_is_recognised_by_its_colour() -> None:
    watch = Watch()
    before = [watch.see(draw([((0.55, 0.05), GREEN), ((0.65, -0.2), RED)])) for _ in range(5)][-1]
    row = int(np.argmin(np.abs(before.mean[1:, 1] - 0.05))) + 1
    arm = wall(0.57, 0.05, 0.08)
    moved = draw([((0.55, 0.20), GREEN), ((0.65, -0.2), RED)])
    for _ in range(5):
        watch.see(paint_arm(draw([((0.65, -0.2), RED)]), watch.encoder, arm), arm)
    after = [watch.see(moved) for _ in range(4)][-1]
    assert np.array_equal(after.ids, before.ids)
    assert np.linalg.norm(after.mean[row, :2] - (0.55, 0.20)) < 0.01


def test_half_a_thing_in_view_does_not_pull_its_position_aside() -> None:
    watch = Watch()
    image = draw([((0.6, 0.0), BLUE)])
    before = [watch.see(image) for _ in range(5)][-1]
    arm = [(np.array([0.6, 0.035, 0.02]), np.array([0.6, 0.035, 0.06]), 0.03)]
    during = [watch.see(paint_arm(image, watch.encoder, arm), arm) for _ in range(5)][-1]
    assert 0.2 < during.visible[1] < 0.8
    assert np.linalg.norm(during.mean[1, :2] - before.mean[1, :2]) < 0.003


def test_the_arm_is_never_a_slot_even_if_its_capsules_are_a_little_thin() -> None:
    watch = Watch()
    image = draw([((0.5, -0.2), RED)])
    for step in range(40):
        y = -0.1 + 0.005 * step
        thick = [(np.array([0.55, y, 0.02]), np.array([0.45, y, 0.4]), 0.035)]
        thin = [(thick[0][0], thick[0][1], 0.029)]
        belief = watch.see(paint_arm(image, watch.encoder, thick), thin)
    assert len(belief.ids) == 2


def test_a_lamp_that_lights_keeps_its_identity_and_shows_in_the_brightness_at_once() -> None:
    watch = Watch()
    off, on = (0.05, 0.25, 0.22), (0.2, 1.0, 0.88)
    for _ in range(5):
        dark = watch.see(draw([((0.6, 0.1), off), ((0.55, -0.1), RED)]))
    row = int(np.argmin(np.abs(dark.mean[1:, 1] - 0.1))) + 1
    light = watch.see(draw([((0.6, 0.1), on), ((0.55, -0.1), RED)]))
    assert np.array_equal(light.ids, dark.ids)
    assert dark.mean[row, 4] == pytest.approx(0.25, abs=0.03)
    assert light.mean[row, 4] == pytest.approx(1.0, abs=0.03)
    again = watch.see(draw([((0.6, 0.1), off), ((0.55, -0.1), RED)]))
    assert again.mean[row, 4] == pytest.approx(0.25, abs=0.03)
    assert abs(again.mean[3 - row, 4] - dark.mean[3 - row, 4]) < 0.02


def test_touching_things_of_different_colour_are_two() -> None:
    watch = Watch()
    belief = [watch.see(draw([((0.6, 0.0), RED), ((0.6, 0.06), BLUE)])) for _ in range(4)][-1]
    assert sorted(np.round(belief.mean[1:, 1], 2)) == pytest.approx([0.0, 0.06], abs=0.01)


def test_touching_things_of_one_colour_stay_two_once_seen_apart() -> None:
    watch = Watch()
    for step in range(25):
        y = max(0.2 - 0.01 * step, 0.06)
        belief = watch.see(draw([((0.6, 0.0), RED), ((0.6, y), RED)]))
    assert len(belief.ids) == 3
    left, right = sorted(belief.mean[1:, 1])
    assert left == pytest.approx(0.0, abs=0.008) and right == pytest.approx(0.06, abs=0.008)


def test_a_thing_taken_away_leaves_the_belief_and_its_number_is_not_given_again() -> None:
    watch = Watch()
    for _ in range(5):
        first = watch.see(draw([((0.6, 0.0), RED)]))
    for _ in range(20):
        empty = watch.see(draw([]))
    assert len(first.ids) == 2 and len(empty.ids) == 1
    other = [watch.see(draw([((0.5, 0.1), BLUE)])) for _ in range(3)][-1]
    assert other.ids[1] > first.ids[1]


def test_a_thing_pushed_off_the_table_leaves_the_belief() -> None:
    watch = Watch()
    for _ in range(5):
        watch.see(draw([((0.6, 0.24), RED), ((0.5, 0.0), BLUE)]))
    for step in range(12):
        watch.see(draw([((0.6, 0.24 + 0.02 * step), RED), ((0.5, 0.0), BLUE)]))
    belief = [watch.see(draw([((0.5, 0.0), BLUE)])) for _ in range(20)][-1]
    assert len(belief.ids) == 2


def test_a_thing_at_the_edge_of_the_table_is_seen_in_full() -> None:
    watch = Watch()
    belief = [watch.see(draw([((0.79, 0.27), BLUE)])) for _ in range(5)][-1]
    assert belief.visible[1] > 0.97
    assert np.linalg.norm(belief.mean[1, :2] - (0.79, 0.27)) < 0.012


def test_positions_err_as_much_as_their_covariance_says() -> None:
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(12):
        x, y = rng.uniform(0.45, 0.75), rng.uniform(-0.22, 0.22)
        watch = Watch()
        for _ in range(4):
            belief = watch.see(draw([((x, y), GREEN)]))
        error = belief.mean[1, :2] - (x, y)
        squares.append(error @ np.linalg.solve(belief.cov[1, :2, :2], error))
    assert np.mean(squares) < 4.0  # 2 if exact; a ball's height is the hardest to tell


def test_the_same_frames_give_the_same_belief_and_a_checkpoint_goes_on_from_where_it_was() -> None:
    images = [draw([((0.5 + 0.01 * k, -0.1), RED), ((0.6, 0.1), BLUE)]) for k in range(10)]
    first, second = Watch(), Watch()
    for image in images[:5]:
        first.see(image)
    second.encoder.restore(first.encoder.state())
    second.frames = first.frames
    for image in images[5:]:
        one, two = first.see(image), second.see(image)
        assert np.array_equal(one.ids, two.ids)
        assert one.mean.tobytes() == two.mean.tobytes() and one.cov.tobytes() == two.cov.tobytes()


def test_a_checkpoint_that_does_not_fit_is_refused_and_nothing_changes() -> None:
    watch = Watch()
    watch.see(draw([((0.6, 0.1), BLUE)]))
    before = watch.encoder.state()
    broken = dict(before)
    broken["slot/ids"] = np.zeros(3, np.int64)
    with pytest.raises(ValueError, match=r"'slot/ids' has shape \(3,\), expected"):
        watch.encoder.restore(broken)
    del broken["slot/ids"]
    with pytest.raises(ValueError, match="lacks the array 'slot/ids'"):
        watch.encoder.restore(broken)
    assert all(np.array_equal(v, before[k], equal_nan=True) for k, v in watch.encoder.state().items())


def test_a_frame_that_cannot_be_used_raises_and_leaves_the_belief_as_it_was() -> None:
    watch = Watch()
    image = draw([((0.6, 0.1), BLUE)])
    for _ in range(3):
        watch.see(image)
    before = watch.encoder.state()
    with pytest.raises(FrameError, match="shape"):
        watch.see(image[:50])
    bad = image / 255.0
    bad[3, 4, 1] = np.nan
    with pytest.raises(FrameError, match="1 non-finite"):
        watch.see(bad)
    with pytest.raises(FrameError, match="older than the last"):
        watch.encoder.encode(Frame(0.0, image, {}), FAR, np.zeros(2), [])
    with pytest.raises(FrameError, match="stamp is nan"):
        watch.encoder.encode(Frame(float("nan"), image, {}), FAR, np.zeros(2), [])
    with pytest.raises(FrameError, match="not finite"):
        watch.encoder.encode(Frame(9.0, image, {}), FAR * np.nan, np.zeros(2), [])
    assert all(np.array_equal(v, before[k], equal_nan=True) for k, v in watch.encoder.state().items())


def test_a_blank_picture_is_no_error_and_things_are_found_when_it_clears() -> None:
    watch = Watch()
    for value in (0, 255):
        assert len(watch.see(np.full((96, 96, 3), value, np.uint8)).ids) == 1
    belief = [watch.see(draw([((0.6, 0.1), BLUE)])) for _ in range(4)][-1]
    assert len(belief.ids) == 2


def test_changing_light_makes_no_things() -> None:
    watch = Watch()
    image = draw([((0.6, 0.1), BLUE), ((0.5, -0.1), RED)]).astype(float)
    for step in range(40):
        belief = watch.see((image * (0.85 + 0.15 * np.cos(0.2 * step))).astype(np.uint8))
    assert len(belief.ids) == 3


def test_noise_in_the_picture_makes_no_things() -> None:
    rng = np.random.default_rng(1)
    watch = Watch()
    image = draw([((0.6, 0.1), BLUE), ((0.5, -0.1), RED)]).astype(float)
    for _ in range(20):
        belief = watch.see(np.clip(image + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8))
    assert len(belief.ids) == 3
