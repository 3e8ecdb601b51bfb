"""Contacts and ground friction: forces by hand, conservation and the limit surface."""
from __future__ import annotations

import math

import pytest
import torch

from happo_gpu.sim.contact import (
    Body,
    Contact,
    ContactLaw,
    Frame,
    circle_box_contact,
    contact_force,
    end_segment_contact,
    flank_corner_contact,
    support_friction,
)

# Round numbers: dt * (damping + dt * stiffness) = 0.01 * (90 + 10) = 1, and 0.4 for the tangent.
LAW = ContactLaw(stiffness=1000.0, damping=90.0, tangent_damping=30.0, mass_split=1.0, dt=0.01)
DEPTH = 0.02  # m
GRAVITY = 9.81


def t(value) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def body(x=0.0, y=0.0, vx=0.0, vy=0.0, omega=0.0, inv_mass=0.5, inv_inertia=0.0) -> Body:
    return Body(*(t(value) for value in (x, y, vx, vy, omega, inv_mass, inv_inertia)))


FIXED = body(inv_mass=0.0)


def touch(x=0.0, y=0.0, normal=(1.0, 0.0), depth=DEPTH) -> Contact:
    return Contact(t(x), t(y), t(normal[0]), t(normal[1]), t(depth))


def values(result) -> list:
    return [value.item() for value in result]


# -- where bodies touch -------------------------------------------------------------------------


def frame(x: float, y: float, yaw: float) -> Frame:
    return Frame(t(x), t(y), t(math.cos(yaw)), t(math.sin(yaw)))


def test_circle_touches_a_turned_box_half_way_through_the_overlap():
    # turned by a quarter the box spans x 1.7..2.3, y 0.4..1.6; the circle reaches x = 2.25
    contact = circle_box_contact(t(2.4), t(1.2), 0.15, frame(2.0, 1.0, math.pi / 2), 0.6, 0.3)
    assert values(contact) == pytest.approx([2.275, 1.2, 1.0, 0.0, 0.05], abs=1e-9)


def test_circle_beyond_a_corner_is_pushed_along_the_line_from_the_corner():
    contact = circle_box_contact(t(0.66), t(0.38), 0.15, frame(0.0, 0.0, 0.0), 0.6, 0.3)
    # (0.06, 0.08) from the corner: 0.1 m away, the overlap's middle is 0.025 m inside the box
    assert values(contact) == pytest.approx([0.6 - 0.6 * 0.025, 0.3 - 0.8 * 0.025, 0.6, 0.8, 0.05], abs=1e-9)


def corner_at(x: float, y: float, side: float) -> Frame:
    """A box of half extents 0.5 standing on its corner (x, y), its centre to the given side."""
    return frame(x, y + side * math.sqrt(0.5), math.pi / 4)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_corner_in_a_flank_pushes_the_robot_away(side):
    contact = flank_corner_contact(frame(0.0, 0.0, 0.0), -0.2, 0.1, 0.15, corner_at(0.0, 0.1 * side, side), 0.5, 0.5)
    assert values(contact) == pytest.approx([0.0, 0.1 * side, 0.0, -side, 0.05], abs=1e-9)


@pytest.mark.parametrize("x", [0.11, -0.21])
def test_corner_beyond_the_flanks_ends_is_left_to_the_end_circles(x):
    contact = flank_corner_contact(frame(0.0, 0.0, 0.0), -0.2, 0.1, 0.15, corner_at(x, 0.1, 1.0), 0.5, 0.5)
    assert contact.depth.item() < 0.0


@pytest.mark.parametrize("centre, expected", [
    ((0.25, 0.05), (0.125, 0.05, 1.0, 0.0, 0.05)),  # beside the axis, which runs along y
    ((-0.25, -0.1), (-0.125, -0.1, -1.0, 0.0, 0.05)),
    ((0.0, 0.35), (0.0, 0.225, 0.0, 1.0, 0.05)),  # ahead of its front at y = 0.1
    ((0.0, -0.55), (0.0, -0.375, 0.0, -1.0, -0.05)),  # behind its rear at y = -0.2, apart
])
def test_capsule_end_touches_the_nearest_point_of_the_other_axis(centre, expected):
    contact = end_segment_contact(t(centre[0]), t(centre[1]), 0.15, frame(0.0, 0.0, math.pi / 2), -0.2, 0.1, 0.15)
    assert values(contact) == pytest.approx(expected, abs=1e-9)


# -- forces at one contact ----------------------------------------------------------------------


@pytest.mark.parametrize("approach, split, force", [
    (0.0, 1.0, 10.0),  # 1000 * 0.02 / (1 + 1 * 1)
    (0.3, 1.0, 25.0),  # (20 + 100 * 0.3) / 2
    (-0.1, 1.0, 5.0),
    (-0.3, 1.0, 0.0),  # parting faster than the spring follows: no pull
    (0.0, 3.0, 5.0),  # 20 / (1 + 3)
])
def test_head_on_force_of_two_bodies_by_hand(approach, split, force):
    first, second = body(x=1.0, vx=-approach / 2), body(x=-1.0, vx=approach / 2)
    result = contact_force(touch(), first, second, t(0.5), t(0.0), LAW._replace(mass_split=split))
    assert values(result) == pytest.approx([force, 0.0, 0.0, 0.0, 0.0], abs=1e-9)


def test_normal_force_is_that_of_the_spring_and_damper_after_the_step():
    first, second = body(x=1.0, vx=-0.7, inv_mass=0.1), body(x=-1.0, vx=0.1, inv_mass=1.3)
    force = contact_force(touch(), first, second, t(0.5), t(0.0), LAW)[0].item()
    after = -0.8 + LAW.dt * force * (0.1 + 1.3)  # normal velocity after the step
    assert force == pytest.approx(LAW.stiffness * (DEPTH - LAW.dt * after) - LAW.damping * after)


def test_eccentric_contact_feels_the_levers_and_the_spin():
    # at (1, -0.5) of a body turning at 0.1 rad/s the point rises at 0.1 m/s: (20 - 10) / (1 + 0.5 + 1^2 * 2)
    spinning = body(omega=0.1, inv_mass=0.5, inv_inertia=2.0)
    contact = touch(1.0, -0.5, normal=(0.0, 1.0))
    force_x, force_y, torque, _, _ = contact_force(contact, spinning, FIXED, t(0.0), t(0.0), LAW)
    assert values((force_x, force_y, torque)) == pytest.approx([0.0, 10.0 / 3.5, 10.0 / 3.5])


def test_spin_of_the_second_body_counts_as_the_first_ones_does():
    # now the second body turns under the first: its point (1, 0.5) rises at 0.1 m/s
    spinning = body(omega=0.1, inv_mass=0.5, inv_inertia=2.0)
    contact = touch(1.0, 0.5, normal=(0.0, 1.0))
    _, force_y, _, torque, _ = contact_force(contact, FIXED, spinning, t(0.0), t(0.0), LAW)
    assert values((force_y, torque)) == pytest.approx([30.0 / 3.5, -30.0 / 3.5])


@pytest.mark.parametrize("spins, force, torque", [
    ("first", 12.5, -6.25),  # its point (1, 0.5) moves at -0.05 m/s: (20 + 100 * 0.05) / (1 + 0.5 + 0.5^2 * 2)
    ("second", 7.5, 3.75),  # it recedes: (20 - 5) / 2
])
def test_spin_moves_the_contact_point_across_the_lever(spins, force, torque):
    spinning = body(omega=0.1, inv_mass=0.5, inv_inertia=2.0)
    bodies = (spinning, FIXED) if spins == "first" else (FIXED, spinning)
    force_x, _, torque1, torque2, _ = contact_force(touch(1.0, 0.5), *bodies, t(0.0), t(0.0), LAW)
    assert values((force_x, torque1 if spins == "first" else torque2)) == pytest.approx([force, torque])


@pytest.mark.parametrize("turnable", ["first", "second"])
def test_tangential_force_feels_the_lever_of_either_body(turnable):
    # -1000 * 0.002 / (1 + 0.4 * (0.5 + 1^2 * 2)) = -1 N at a lever of 1 m
    light = body(inv_mass=0.5, inv_inertia=2.0)
    bodies = (light, FIXED) if turnable == "first" else (FIXED, light)
    _, force_y, torque1, torque2, _ = contact_force(touch(1.0, 0.0), *bodies, t(0.5), t(0.002), LAW)
    expected = [-1.0, -1.0] if turnable == "first" else [-1.0, 1.0]
    assert values((force_y, torque1 if turnable == "first" else torque2)) == pytest.approx(expected)


@pytest.mark.parametrize("slide, stretch, force, new_stretch", [
    (0.0, 0.002, -2.0 / 1.4, 0.002),  # sticking: -1000 * 0.002 / (1 + 0.4)
    (0.05, 0.0, -0.05 * 40.0 / 1.4, 0.0005),  # sticking, damped: rate 30 + 10
    (2.0, 0.0, -5.0, 0.007),  # slipping: 0.5 * 10 N, and the memory that bears as much at rest: 7 / 1.4
    (-2.0, 0.0, 5.0, -0.007),
    (0.0, 0.1, -5.0, 0.007),
])
def test_tangential_force_sticks_up_to_the_coulomb_limit_by_hand(slide, stretch, force, new_stretch):
    first, second = body(x=1.0, vy=slide), body(x=-1.0)  # tangent of the normal (1, 0) is (0, 1)
    result = contact_force(touch(), first, second, t(0.5), t(stretch), LAW)
    # the contact lies at x = 0, a metre left of the first body and right of the second
    assert values(result) == pytest.approx([10.0, force, -force, -force, new_stretch])


def test_bodies_apart_feel_nothing_and_forget_the_stretch():
    first, second = body(x=1.0, vx=-5.0, vy=3.0, omega=2.0), body(x=-1.0)
    result = contact_force(touch(depth=-1e-6), first, second, t(0.5), t(0.003), LAW)
    assert values(result) == [0.0] * 5


def random_contacts(shape=(3, 5, 7)):
    """Contacts (3, 5, 7) of arbitrary bodies, some of them apart."""

    def normal(*size):
        return torch.randn(*size, dtype=torch.float64)

    def one_body():
        x, y, vx, vy, omega = normal(5, *shape)
        return Body(x, y, vx, vy, omega, *torch.rand(2, *shape, dtype=torch.float64))

    angle = 6.0 * normal(*shape)
    contact = Contact(normal(*shape), normal(*shape), angle.cos(), angle.sin(), 0.1 * normal(*shape))
    friction = torch.rand(shape[-1], dtype=torch.float64)
    return contact, one_body(), one_body(), friction, 0.05 * normal(*shape)


def test_any_contact_conserves_linear_and_angular_momentum():
    contact, first, second, friction, stretch = random_contacts()
    fx, fy, torque1, torque2, _ = contact_force(contact, first, second, friction, stretch, LAW)
    about_origin = first.x * fy - first.y * fx + torque1 - (second.x * fy - second.y * fx) + torque2
    assert int((fx != 0).sum()) > 20
    torch.testing.assert_close(about_origin, torch.zeros_like(fx), atol=1e-9, rtol=0)
    # and the force acts at the contact point
    moment = contact.point_x * fy - contact.point_y * fx
    torch.testing.assert_close(first.x * fy - first.y * fx + torque1, moment)


def test_any_contact_pushes_and_keeps_the_coulomb_limit():
    contact, first, second, friction, stretch = random_contacts()
    fx, fy, _, _, _ = contact_force(contact, first, second, friction, stretch, LAW)
    normal = fx * contact.normal_x + fy * contact.normal_y
    tangent = fy * contact.normal_x - fx * contact.normal_y
    limit = friction * normal
    assert bool((normal >= -1e-12).all()) and bool((normal[contact.depth <= 0] == 0).all())
    assert bool((tangent.abs() <= limit + 1e-9).all())
    touching = normal > 0
    slipping = (tangent.abs() >= limit - 1e-9) & touching
    assert bool(slipping.any()) and bool((touching & ~slipping).any())


def pressed_on_a_wall(*loads: float):
    """2 kg, pressed with 10 N on a wall with mu 0.5, under tangential loads for 3 s: x, y and vy."""
    load = t(loads)
    x, y, vx, vy, stretch = (torch.zeros_like(load) for _ in range(5))
    for _ in range(300):
        contact = Contact(x, y, t(1.0), t(0.0), -x)
        first = Body(x, y, vx, vy, t(0.0), t(0.5), t(0.0))
        fx, fy, _, _, stretch = contact_force(contact, first, FIXED, t(0.5), stretch, LAW)
        vx, vy = vx + LAW.dt * (fx - 10.0) / 2.0, vy + LAW.dt * (fy + load) / 2.0
        x, y = x + LAW.dt * vx, y + LAW.dt * vy
    return x, y, vy


def test_load_up_to_the_coulomb_limit_is_held_without_creep_and_one_above_slides():
    x, y, vy = pressed_on_a_wall(3.0, 4.9, -4.9, 8.0)  # the limit is 5 N
    assert vy[:3].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    assert y[0].item() == pytest.approx(0.0036)  # 3 N of a spring that yields 1.2 / 1000 m/N
    assert y[1].item() < 0.02 and y[2].item() == pytest.approx(-y[1].item())  # slid only while the press built up
    assert vy[3].item() == pytest.approx((8.0 - 5.0) / 2.0 * 3.0, rel=0.02)
    assert bool((x > -2.0 * 10.0 / LAW.stiffness).all())  # and nothing sinks into the wall


# -- ground friction ----------------------------------------------------------------------------

MASS, INERTIA, FRICTION, TORSION_RADIUS, DT = 4.0, 0.96, 0.5, 0.8, 0.005
FORCE = GRAVITY * FRICTION * MASS  # N
TORQUE = FORCE * TORSION_RADIUS  # N m


def slide(vx, vy, omega, inertia=INERTIA, dtype=torch.float32):
    """One step; velocities as numbers or tensors."""
    vx, vy, omega = torch.broadcast_tensors(*(torch.as_tensor(v, dtype=dtype) for v in (vx, vy, omega)))
    constants = (torch.as_tensor(value, dtype=dtype) for value in (MASS, inertia, FORCE, TORQUE))
    return support_friction(vx, vy, omega, *constants, DT)


def test_pure_translation_slows_by_mu_g_dt_along_its_direction():
    loss = FRICTION * GRAVITY * DT  # 0.024525 m/s
    assert values(slide(0.3, 0.4, 0.0)) == pytest.approx([0.6 * (0.5 - loss), 0.8 * (0.5 - loss), 0.0], rel=1e-5)
    assert values(slide(-0.03, 0.0, 0.0)) == pytest.approx([-0.03 + loss, 0.0, 0.0], abs=1e-6)


def test_pure_spin_slows_by_torque_over_inertia():
    assert values(slide(0.0, 0.0, -0.5)) == pytest.approx([0.0, 0.0, -0.5 + DT * TORQUE / INERTIA], rel=1e-5)


@pytest.mark.parametrize("share_lin, share_rot", [(0.99, 0.0), (0.0, 0.99), (0.7, 0.7), (0.0, 0.0)])
def test_body_inside_the_limit_surface_stops_exactly(share_lin, share_rot):
    # the impulse that would stop it, as shares of the largest: 0.7^2 + 0.7^2 < 1
    vx, omega = share_lin * DT * FORCE / MASS, share_rot * DT * TORQUE / INERTIA
    assert values(slide(0.6 * vx, -0.8 * vx, omega)) == [0.0, 0.0, 0.0]


def test_combined_load_beyond_the_limit_surface_slides_though_each_part_is_below():
    vx, _, omega = values(slide(0.8 * DT * FORCE / MASS, 0.0, 0.8 * DT * TORQUE / INERTIA))
    assert vx > 0.0 and omega > 0.0


def any_velocities(n=997):
    """(3, n) from creeping to flying; mostly sliding."""
    scale = 10.0 ** (3.0 * torch.rand(n) - 2.0)
    return scale * torch.randn(3, n), 0.2 + 2.0 * torch.rand(n)


def test_sliding_wrench_lies_on_the_limit_surface_along_the_final_velocity():
    (vx, vy, omega), inertia = any_velocities()
    after_x, after_y, after_w = slide(vx, vy, omega, inertia, torch.float64)
    fx, fy = MASS * (vx - after_x) / (DT * FORCE), MASS * (vy - after_y) / (DT * FORCE)
    torque = inertia * (omega - after_w) / (DT * TORQUE)
    surface = fx * fx + fy * fy + torque * torque
    stuck = (after_x == 0) & (after_y == 0) & (after_w == 0)
    assert 10 < int(stuck.sum()) < 500
    assert bool((surface[stuck] <= 1.0 + 1e-6).all())
    torch.testing.assert_close(surface[~stuck], torch.ones_like(surface[~stuck]), atol=1e-5, rtol=0)
    # the wrench is the gradient of the surface: f / F^2 : t / T^2 = v : w, the largest dissipation
    for force, velocity in ((fx, after_x), (fy, after_y)):
        cross = force * TORQUE * after_w - torque * FORCE * velocity
        size = (force.abs() + torque.abs()) * (TORQUE * after_w.abs() + FORCE * velocity.abs())
        assert bool((cross.abs() <= 1e-6 * size + 1e-12).all())


def test_friction_never_reverses_a_motion_and_never_adds_energy():
    before, inertia = any_velocities()
    after = slide(*before, inertia)
    for old, new in zip(before, after):
        assert bool((new * old >= 0.0).all()) and bool((new.abs() <= old.abs()).all())
    assert bool(torch.isfinite(torch.stack(after)).all())
