"""The arm's outline in the picture."""

from __future__ import annotations

import numpy as np

from crl_node.camera import Camera
from crl_node.perception.self_filter import SelfFilter

CAMERA = Camera.look_at(
    eye=np.array([1.2, 0.1, 1.0]), target=np.array([0.6, 0.0, 0.0]), fov_y=0.6, width=64, height=48
)


def test_points_inside_a_capsule_are_masked_and_points_well_outside_are_not() -> None:
    start, end, radius = np.array([0.5, -0.1, 0.05]), np.array([0.6, 0.1, 0.3]), 0.04
    mask = SelfFilter(CAMERA, 0.0).mask([(start, end, radius)])
    rng = np.random.default_rng(0)
    for _ in range(300):
        direction = rng.normal(size=3)
        inside = start + rng.uniform() * (end - start) + 0.95 * radius * direction / np.linalg.norm(direction)
        column, row = CAMERA.project(inside[None])[0]
        near = mask[max(int(row) - 1, 0) : int(row) + 2, max(int(column) - 1, 0) : int(column) + 2]
        assert near.any()
    far = CAMERA.project(np.array([[0.75, -0.15, 0.0]]))[0].astype(int)
    assert not mask[far[1], far[0]]


def test_the_outline_of_a_ball_has_the_size_geometry_gives() -> None:
    centre, radius = np.array([0.6, 0.0, 0.0]), 0.05
    mask = SelfFilter(CAMERA, 0.0).mask([(centre, centre, radius)])
    distance = np.linalg.norm(centre - CAMERA.pose[:3, 3])
    across = 2 * CAMERA.intrinsics[0, 0] * radius / distance
    assert abs(mask.any(axis=0).sum() - across) <= 1.5
    assert abs(mask.sum() - np.pi / 4 * across**2) < 0.12 * mask.sum()


def test_margin_widens_the_mask_and_a_capsule_behind_the_camera_hides_nothing() -> None:
    capsule = (np.array([0.6, 0.0, 0.0]), np.array([0.6, 0.0, 0.2]), 0.02)
    narrow, wide = (SelfFilter(CAMERA, m).mask([capsule]) for m in (0.0, 1.0))
    assert np.all(wide | ~narrow) and wide.sum() > narrow.sum()
    behind = (np.array([2.0, 0.2, 1.9]), np.array([2.2, 0.2, 2.1]), 0.1)
    assert not SelfFilter(CAMERA, 1.0).mask([behind]).any()
    assert not SelfFilter(CAMERA, 1.0).mask([]).any()
