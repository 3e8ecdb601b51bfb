"""Plane geometry: hand numbers, and distances against a finely sampled outline."""
from __future__ import annotations

import math

import pytest
import torch

from happo_gpu.geometry import box_distance, nearest_edge_normal, rotate, rotate_back, wrap_to_pi

HALF_X, HALF_Y = 0.7, 0.3  # unequal, so that the axes cannot be swapped
SQUARE = [(-0.6, -0.6), (0.6, -0.6), (0.6, 0.6), (-0.6, 0.6)]  # counter-clockwise


def tensors(*values: float):
    return [torch.tensor(value) for value in values]


@pytest.mark.parametrize("angle, wrapped", [
    (0.3, 0.3), (4.0, 4.0 - 2 * math.pi), (-4.0, 2 * math.pi - 4.0), (7.0, 7.0 - 2 * math.pi),
    (-20.0, 6 * math.pi - 20.0), (math.pi, -math.pi), (-math.pi, -math.pi),
])
def test_angle_wraps_into_the_half_open_turn(angle, wrapped):
    result = wrap_to_pi(torch.tensor(angle, dtype=torch.float64)).item()
    assert result == pytest.approx(wrapped, abs=1e-12)


def test_quarter_turn_takes_forward_to_left():
    x, y = rotate(*tensors(2.0, 0.0, 0.0, 1.0))  # cos 0, sin 1
    assert (x.item(), y.item()) == (0.0, 2.0)
    x, y = rotate_back(*tensors(0.0, 2.0, 0.0, 1.0))
    assert (x.item(), y.item()) == (2.0, 0.0)


def test_rotating_back_undoes_rotating_and_keeps_lengths():
    x, y = torch.randn(2, 7, 3, dtype=torch.float64)
    angle = 10.0 * torch.randn(7, 3, dtype=torch.float64)
    turned = rotate(x, y, angle.cos(), angle.sin())
    torch.testing.assert_close(torch.hypot(*turned), torch.hypot(x, y))
    back = rotate_back(*turned, angle.cos(), angle.sin())
    torch.testing.assert_close(torch.stack(back), torch.stack((x, y)))


@pytest.mark.parametrize("x, y, distance, normal", [
    (0.9, 0.1, 0.2, (1.0, 0.0)),  # in front of each face
    (-1.2, 0.2, 0.5, (-1.0, 0.0)),
    (0.5, 0.7, 0.4, (0.0, 1.0)),
    (-0.5, -0.4, 0.1, (0.0, -1.0)),
    (0.73, 0.34, 0.05, (0.6, 0.8)),  # beyond corners: 3-4-5 triangles
    (-0.74, 0.33, 0.05, (-0.8, 0.6)),
    (0.66, 0.1, -0.04, (1.0, 0.0)),  # inside: the nearest face
    (-0.1, -0.25, -0.05, (0.0, -1.0)),
    (-0.6, 0.1, -0.1, (-1.0, 0.0)),
    (0.2, 0.0, -0.3, (0.0, 1.0)),
])
def test_distance_and_normal_of_a_rectangle_by_hand(x, y, distance, normal):
    result, normal_x, normal_y = box_distance(*tensors(x, y), HALF_X, HALF_Y)
    assert result.item() == pytest.approx(distance, abs=1e-6)
    assert (normal_x.item(), normal_y.item()) == pytest.approx(normal, abs=1e-5)


def outline(spacing: float = 1e-3) -> torch.Tensor:
    """Points on the rectangle's outline, (P, 2)."""
    along_x, along_y = torch.arange(-HALF_X, HALF_X + 1e-9, spacing), torch.arange(-HALF_Y, HALF_Y + 1e-9, spacing)
    sides = [torch.stack((along_x, torch.full_like(along_x, side)), -1) for side in (-HALF_Y, HALF_Y)]
    sides += [torch.stack((torch.full_like(along_y, side), along_y), -1) for side in (-HALF_X, HALF_X)]
    return torch.cat(sides)


def test_rectangle_distance_agrees_with_the_sampled_outline():
    points = (torch.rand(1009, 2) - 0.5) * torch.tensor([2.4, 1.6])  # inside and out
    distance, _, _ = box_distance(points[:, 0], points[:, 1], HALF_X, HALF_Y)
    inside = (points[:, 0].abs() < HALF_X) & (points[:, 1].abs() < HALF_Y)
    nearest = torch.cdist(points, outline()).amin(1)
    assert 100 < int(inside.sum()) < 900
    torch.testing.assert_close(distance, torch.where(inside, -nearest, nearest), atol=6e-4, rtol=0)


def test_normal_is_unit_and_points_away_from_the_nearest_surface_point():
    points = (torch.rand(1009, 2) - 0.5) * torch.tensor([2.4, 1.6])
    distance, normal_x, normal_y = box_distance(points[:, 0], points[:, 1], HALF_X, HALF_Y)
    torch.testing.assert_close(torch.hypot(normal_x, normal_y), torch.ones(1009))
    surface = points - distance.unsqueeze(-1) * torch.stack((normal_x, normal_y), -1)
    on_surface, _, _ = box_distance(surface[:, 0], surface[:, 1], HALF_X, HALF_Y)
    assert on_surface.abs().max() < 1e-6


def test_normal_is_finite_at_the_centre_on_a_face_and_on_a_corner():
    x, y = torch.tensor([0.0, HALF_X, 0.0, HALF_X]), torch.tensor([0.0, 0.1, HALF_Y, HALF_Y])
    distance, normal_x, normal_y = box_distance(x, y, HALF_X, HALF_Y)
    assert distance.tolist() == pytest.approx([-HALF_Y, 0.0, 0.0, 0.0], abs=1e-7)
    torch.testing.assert_close(torch.hypot(normal_x, normal_y), torch.ones(4))


@pytest.mark.parametrize("x, y, normal", [
    (0.1, -2.0, (0.0, 1.0)), (2.0, 0.1, (-1.0, 0.0)), (0.1, 2.0, (0.0, -1.0)), (-2.0, 0.1, (1.0, 0.0)),  # outside
    (0.1, -0.5, (0.0, 1.0)), (0.5, 0.1, (-1.0, 0.0)), (0.1, 0.5, (0.0, -1.0)), (-0.5, 0.1, (1.0, 0.0)),  # inside
])
def test_nearest_edge_of_a_square_gives_its_inward_normal(x, y, normal):
    result = nearest_edge_normal(*tensors(x, y), SQUARE)
    assert tuple(value.item() for value in result) == pytest.approx(normal, abs=1e-6)


def test_of_edges_equally_near_beyond_a_corner_the_first_wins():
    beyond = 0.6 + 1.5 * torch.rand(997, 2)
    for sign_x, sign_y, first in ((-1, -1, (0.0, 1.0)), (1, -1, (0.0, 1.0)), (1, 1, (-1.0, 0.0)), (-1, 1, (0.0, -1.0))):
        normal = torch.stack(nearest_edge_normal(sign_x * beyond[:, 0], sign_y * beyond[:, 1], SQUARE), -1)
        assert torch.equal(normal, torch.tensor(first).expand(997, 2))


def test_slanted_edge_counts_as_a_segment_and_not_as_its_line():
    triangle = [(0.0, 0.0), (4.0, 0.0), (0.0, 3.0)]
    # beside the hypotenuse; and past its end, where its line is near but the floor is nearer
    x, y = torch.tensor([3.0, 4.5]), torch.tensor([3.0, -0.5])
    normal = torch.stack(nearest_edge_normal(x, y, triangle), -1)
    torch.testing.assert_close(normal, torch.tensor([[-0.6, -0.8], [0.0, 1.0]]))
