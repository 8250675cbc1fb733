"""A picture that stays the same while the arm moves is no picture of now."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.perception.frozen import MOST_PATH, FrozenPicture
from crl_node.perception.validate import FrameError

RNG = np.random.default_rng(0)


def picture() -> np.ndarray:
    return RNG.integers(0, 255, (8, 8, 3), np.uint8)


def tip(x: float) -> np.ndarray:
    return np.array([x, 0.0, 0.02])


def test_the_same_picture_of_a_moving_arm_is_refused_and_a_new_one_is_taken_again() -> None:
    check, same = FrozenPicture(), picture()
    check.look(same, tip(0.5))
    check.look(same.copy(), tip(0.5 + 0.4 * MOST_PATH))
    with pytest.raises(FrameError, match="the camera is frozen"):
        check.look(same.copy(), tip(0.5 + 1.2 * MOST_PATH))
    with pytest.raises(FrameError, match="has moved 22 mm"):
        check.look(same.copy(), tip(0.5 + 1.2 * MOST_PATH + 0.02))
    assert check.frozen == 2
    check.look(picture(), tip(0.53))


def test_an_arm_that_stands_still_may_be_seen_the_same_for_ever() -> None:
    check, same = FrozenPicture(), picture()
    for _ in range(100):
        check.look(same, tip(0.5))


def test_one_changed_pixel_is_a_new_picture() -> None:
    check, image = FrozenPicture(), picture()
    for n in range(20):
        image = image.copy()
        image[0, 0, 0] += 1
        check.look(image, tip(0.5 + 0.02 * n))
