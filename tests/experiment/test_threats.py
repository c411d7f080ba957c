import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiment import plugins
from experiment.threats.l2 import L2
from experiment.threats.linf import Linf

ROUNDING = 1e-6
seeds = st.integers(0, 2**32)
radii = st.sampled_from([1 / 255, 8 / 255, 0.1, 0.3, 0.5, 1.0])
NORMS = {"linf": (Linf, np.inf), "l2": (L2, 2)}
every_norm = pytest.mark.parametrize("norm", NORMS)


def random_images(seed):
    """Of random size; among the pixels are exact 0, exact 1 and their neighbours."""
    random = np.random.default_rng(seed)
    images = random.random((random.integers(1, 5), random.integers(1, 4), random.integers(1, 7), 3), dtype=np.float32)
    special = np.array([0, 1, 1e-8, 1 - 2**-24, 0.5], np.float32)
    chosen = random.random(images.shape) < 0.4
    images[chosen] = random.choice(special, chosen.sum())
    return torch.from_numpy(images)


def random_delta(images, seed, scale):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, tuple(images.shape)).astype(np.float32))


def threat(eps, seed=0, norm="linf"):
    return NORMS[norm][0](eps, torch.Generator().manual_seed(seed))


def lengths(delta, norm):
    """The norm of each perturbation, in float64."""
    flat = delta.detach().double().flatten(1).numpy()
    return np.linalg.norm(flat, NORMS[norm][1], axis=1)


def assert_ready(delta):
    """Detached from what made it, and to be differentiated."""
    assert delta.is_leaf
    assert delta.requires_grad


@every_norm
@given(seed=seeds, eps=radii, scale=st.sampled_from([0.01, 0.1, 3.0]), step_size=st.sampled_from([0.001, 0.05, 2.0]))
def test_every_perturbation_of_a_step_lies_in_the_ball_and_in_the_box(norm, seed, eps, scale, step_size):
    images = random_images(seed)
    gradient = random_delta(images, seed + 1, 1.0)
    model = threat(eps, norm=norm)
    for start in (threat(eps, seed, norm).random_start(images), random_delta(images, seed + 2, scale).requires_grad_()):
        delta = model.ascend(images, start, gradient, step_size)
        assert_ready(delta)
        assert lengths(delta, norm).max() <= eps + ROUNDING
        assert (images + delta).min() >= 0  # exactly: networks and attacks are shown this sum
        assert (images + delta).max() <= 1
        assert model.admits(images, (images + delta).detach()).all()


@given(seed=seeds, eps=radii, step_size=st.floats(0.001, 1))
def test_a_step_goes_along_the_signs_and_is_cut_to_the_ball_then_to_the_box(seed, eps, step_size):
    images = random_images(seed)
    start, gradient = threat(eps, seed).random_start(images), random_delta(images, seed, 1.0)
    gradient[..., 0] = 0  # where the loss is flat, nothing moves
    delta = threat(eps).ascend(images, start, gradient, step_size).detach().double().numpy()
    x, d, g = (tensor.detach().double().numpy() for tensor in (images, start, gradient))
    expected = np.clip(np.clip(d + step_size * np.sign(g), -eps, eps), -x, 1 - x)
    np.testing.assert_allclose(delta, expected, rtol=0, atol=ROUNDING)


@given(seed=seeds, eps=radii, step_size=st.floats(0.001, 1))
def test_a_step_in_l2_goes_along_the_gradient_and_is_scaled_into_the_ball_then_cut_to_the_box(seed, eps, step_size):
    images = random_images(seed)
    start, gradient = threat(eps, seed, "l2").random_start(images), random_delta(images, seed, 1.0)
    gradient[0] = 0  # where the loss is flat, nothing moves
    delta = threat(eps, norm="l2").ascend(images, start, gradient, step_size).detach().double().numpy()
    for made, x, d, g in zip(delta, images, start, gradient, strict=True):
        x, d, g = (tensor.detach().double().numpy() for tensor in (x, d, g))
        length = np.sqrt((g**2).sum())
        moved = d + step_size * g / length if length else d
        moved *= min(1, eps / max(np.sqrt((moved**2).sum()), 1e-30))
        np.testing.assert_allclose(made, np.clip(moved, -x, 1 - x), rtol=0, atol=ROUNDING)


@given(seed=seeds, exponent=st.integers(-37, 30))
def test_the_direction_in_l2_has_length_1_however_small_the_gradient_is_and_is_zero_where_it_is_zero(seed, exponent):
    gradient = random_delta(random_images(seed), seed, 1.0)
    gradient[0] = 0
    direction = threat(0.1, norm="l2").direction(gradient * 10.0**exponent)
    assert direction[0].eq(0).all()
    np.testing.assert_allclose(lengths(direction[1:], "l2"), 1, rtol=1e-5)
    torch.testing.assert_close(direction, threat(0.1, norm="l2").direction(gradient), rtol=0, atol=1e-5)


@given(seed=seeds, eps=radii, scale=st.sampled_from([0.1, 3.0]))
def test_the_projection_in_l2_is_the_nearest_point_of_the_ball(seed, eps, scale):
    """Nearest: from it, every point of the convex ball lies at no acute angle to what was projected."""
    delta = random_delta(random_images(seed), seed, scale).double()
    projected = threat(eps, norm="l2").project(delta).detach()
    others = random_delta(delta, seed + 1, 1.0).double()
    others *= eps / torch.linalg.vector_norm(others, dim=(1, 2, 3), keepdim=True)
    assert ((delta - projected) * (others - projected)).sum((1, 2, 3)).max() <= 1e-9
    assert lengths(projected, "l2").max() <= eps + 1e-9


@every_norm
@given(seed=seeds, eps=radii)
def test_to_project_or_to_box_what_is_inside_changes_nothing(norm, seed, eps):
    images = random_images(seed)
    inside = threat(eps, seed, norm).random_start(images)
    model = threat(eps, norm=norm)
    torch.testing.assert_close(model.project(inside), inside, rtol=0, atol=0 if norm == "linf" else ROUNDING)
    torch.testing.assert_close(model.box(images, inside), inside, rtol=0, atol=ROUNDING)
    assert_ready(model.project(inside * 2))
    assert_ready(model.box(images, inside * 2))


@every_norm
@given(seed=seeds, eps=radii)
def test_a_random_start_lies_in_the_ball_and_in_the_box_and_noise_in_the_ball_alone(norm, seed, eps):
    images = random_images(seed)
    start = threat(eps, seed, norm).random_start(images)
    noise = threat(eps, seed, norm).noise(images)
    assert_ready(start)
    assert_ready(noise)
    assert noise.shape == images.shape
    assert max(lengths(start, norm).max(), lengths(noise, norm).max()) <= eps + ROUNDING
    assert (images + start).min() >= 0
    assert (images + start).max() <= 1
    torch.testing.assert_close(start, noise.clamp(-images, 1 - images), rtol=0, atol=ROUNDING)
    assert lengths(threat(eps, norm=norm).noise(images, 2 * eps), norm).max() <= 2 * eps + ROUNDING


def test_noise_in_l2_is_uniform_in_its_ball():
    """Of two values an image: in each of eight rings of equal area, and in each of eight sectors, as many."""
    noise = threat(0.1, norm="l2").noise(torch.zeros(8000, 1, 1, 2), 0.3).detach().double().flatten(1)
    rings = ((noise**2).sum(1) / 0.3**2 * 8).long()
    sectors = ((torch.atan2(noise[:, 1], noise[:, 0]) / torch.pi + 1) * 4).long()
    for counts in (torch.bincount(rings, minlength=8), torch.bincount(sectors, minlength=8)):
        assert len(counts) == 8
        assert (counts - 1000).abs().max() < 150  # five deviations


def test_noise_is_uniform_in_plus_minus_its_radius_and_leaves_the_box():
    images = torch.zeros(100, 1, 10, 10)
    for radius, noise in ((0.1, threat(0.1).noise(images)), (0.3, threat(0.1).noise(images, 0.3))):
        counts = torch.histc(noise.detach(), bins=10, min=-radius, max=radius)
        assert counts.sum() == noise.numel()
        assert (counts - 1000).abs().max() < 150  # five deviations


@every_norm
def test_noise_comes_from_the_threat_s_own_generator(norm):
    images = torch.rand(2, 1, 4, 4)
    before = torch.get_rng_state()
    one, again, other = (threat(0.1, seed, norm).noise(images) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@every_norm
def test_images_and_perturbations_that_are_given_stay_as_they_are(norm):
    images, delta = torch.rand(2, 1, 4, 4), torch.full((2, 1, 4, 4), 5.0, requires_grad=True)
    kept, model = images.clone(), threat(0.1, norm=norm)
    for made in (
        model.project(delta),
        model.box(images, delta),
        model.ascend(images, delta, torch.ones_like(images), 1.0),
        model.random_start(images),
    ):
        made.detach().fill_(7)
    assert torch.equal(images, kept)
    assert torch.equal(delta, torch.full_like(delta, 5.0))


@pytest.mark.parametrize(
    ("pixel", "adversarial", "admitted"),
    [
        (0.5, 0.6, True),
        (0.5, 0.4, True),
        (0.5, 0.6 + 5e-7, True),  # rounding
        (0.5, 0.6 + 1e-5, False),
        (0.5, 0.4 - 1e-5, False),
        (1.0, 1.0 + 2**-23, False),
        (0.0, -1e-30, False),
        (0.05, 0.0, True),
        (0.5, float("nan"), False),
        (0.5, float("inf"), False),
    ],
)
def test_an_adversarial_image_counts_only_inside_the_ball_and_the_box(pixel, adversarial, admitted):
    images = torch.full((3, 2, 2, 2), pixel)
    made = images.clone()
    made[1, 1, 0, 1] = adversarial  # one pixel of one image
    assert threat(0.1).admits(images, made).tolist() == [True, admitted, True]


@pytest.mark.parametrize(
    ("changes", "admitted"),
    [
        ([0.06, 0.08], True),  # 0.1 long
        ([0.06, 0.08 + 5e-7], True),  # rounding
        ([0.06, 0.08 + 1e-5], False),
        ([0.09, 0.09], False),
        ([-0.1, 0.0], True),
        ([float("nan"), 0.0], False),
        ([float("inf"), 0.0], False),
    ],
)
def test_an_adversarial_image_counts_only_inside_the_ball_of_l2(changes, admitted):
    images = torch.full((3, 2, 2, 2), 0.5)
    made = images.clone()
    made[1, 0, 0, 1] += changes[0]
    made[1, 1, 1, 0] += changes[1]
    assert threat(0.1, norm="l2").admits(images, made).tolist() == [True, admitted, True]


def test_a_norm_is_found_by_its_name():
    assert {name: plugins.load("threat", name) for name in plugins.names("threat")} == {
        name: threat for name, (threat, _) in NORMS.items()
    }


BOUNDS = {-0.5: 0.0, -1e-8: 0.0, 0.0: 1.0, 0.25: 1.0, 1.0: 1.0, 1 + 2**-23: 0.0, 2.0: 0.0}


@pytest.mark.fault("version")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_cut_to_the_box_has_derivative_1_from_0_to_1_with_both_and_0_outside(dtype):
    values = torch.tensor([*BOUNDS], dtype=dtype, requires_grad=True)
    cut = threat(0.1).clip(values)
    assert cut.tolist() == np.clip([*BOUNDS], 0, 1).tolist()
    (gradient,) = torch.autograd.grad((3 * cut).sum(), values)
    assert gradient.tolist() == [3 * derivative for derivative in BOUNDS.values()]


@pytest.mark.fault("version")
@given(seed=seeds)
def test_what_is_cut_to_the_box_has_these_derivatives_in_a_second_backward_too(seed):
    values = (random_images(seed) + random_delta(random_images(seed), seed, 0.3)).double().requires_grad_()
    inside = ((values >= 0) & (values <= 1)).double()
    (first,) = torch.autograd.grad((threat(0.1).clip(values) ** 3).sum(), values, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), values)
    torch.testing.assert_close(first, 3 * values**2 * inside, rtol=1e-12, atol=0)
    torch.testing.assert_close(second, 6 * values * inside, rtol=1e-12, atol=0)


def test_what_is_no_number_stays_none_when_it_is_cut_to_the_box():
    values = torch.tensor([torch.nan, torch.inf, -torch.inf])
    assert threat(0.1).clip(values)[0].isnan()
    assert threat(0.1).clip(values)[1:].tolist() == [1, 0]
