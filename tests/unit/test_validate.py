"""An image that cannot be trusted is turned away with a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.perception.validate import FrameError, check_image, decode_image


def decode(image: np.ndarray, **changes: object) -> np.ndarray:
    height, width, channels = image.shape
    fields = {"width": width, "height": height, "step": width * channels, "encoding": "rgb8"}
    fields |= {"expected": (width, height)}
    return decode_image(image.tobytes(), **{**fields, **changes})  # type: ignore[arg-type]


IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def test_rgb_comes_back_as_it_was_and_is_a_copy() -> None:
    found = decode(IMAGE)
    assert np.array_equal(found, IMAGE)
    found[:] = 0


def test_bgr_is_turned_into_rgb() -> None:
    assert np.array_equal(decode(IMAGE, encoding="bgr8"), IMAGE[:, :, ::-1])


def test_padding_at_the_end_of_rows_is_left_out() -> None:
    padded = np.zeros((4, 18), np.uint8)
    padded[:, :15] = IMAGE.reshape(4, 15)
    found = decode_image(padded.tobytes(), width=5, height=4, step=18, encoding="rgb8", expected=(5, 4))
    assert np.array_equal(found, IMAGE)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoding": "mono8"}, "encoding 'mono8' is not one of rgb8"),
        ({"expected": (96, 96)}, "5x4 px but the camera was described as 96x96 px"),
        ({"step": 14}, "step is 14 bytes, less than the 15 bytes of one row"),
        ({"step": 16}, "holds 60 bytes but step 16 x height 4 makes 64"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_received(changes: dict, text: str) -> None:
    with pytest.raises(FrameError, match=text) as caught:
        decode(IMAGE, **changes)
    assert "frame dropped" in str(caught.value)


def test_float_images_must_be_finite_and_in_range() -> None:
    good = np.full((4, 5, 3), 0.5)
    assert np.array_equal(check_image(good, width=5, height=4), good)
    bad = good.copy()
    bad[0, 0, 0] = np.nan
    bad[1, 1, 1] = np.inf
    with pytest.raises(FrameError, match="2 non-finite values of 60"):
        check_image(bad, width=5, height=4)
    with pytest.raises(FrameError, match="spans 0 to 127"):
        check_image(254 * good * np.eye(4, 5)[..., None], width=5, height=4)


def test_a_constant_image_is_no_error() -> None:
    assert check_image(np.zeros((4, 5, 3), np.uint8), width=5, height=4).max() == 0.0


def test_other_types_and_shapes_are_refused() -> None:
    with pytest.raises(FrameError, match="int64"):
        check_image(np.zeros((4, 5, 3), np.int64), width=5, height=4)
    with pytest.raises(FrameError, match=r"shape \(4, 5\)"):
        check_image(np.zeros((4, 5), np.uint8), width=5, height=4)
