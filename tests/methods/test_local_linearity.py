"""GradAlign, ELLE, ELLE-A, LLR and CURE against second, naive implementations, written here from the papers' code."""

import statistics

import pytest
import reference
import torch
from reference import (
    EPS,
    Reference,
    assert_agrees,
    assert_same_networks,
    clip_to_ball,
    clip_to_box,
    trained,
)

from experiment.effort import Effort
from methods import Batch, load
from methods.grad_align.method import misalignment
from training.learner import Learner

pytestmark = pytest.mark.usefixtures("float64")

FGSM = Effort(1, EPS)
TWO = Effort(2, 0.7 * EPS)
NONE = Effort(0, EPS)


class LinearReference(Reference):
    """The attack and the update that the methods share; `penalty` is called with images, labels, delta, the gradient
    at the images, and the smoothing of labels."""

    def __init__(self, penalty, weight, *, boxed=False, double_step=False, smoothing=0.0):
        super().__init__()
        self.penalty, self.weight, self.boxed, self.double_step = penalty, weight, boxed, double_step
        self.smoothing = smoothing

    def losses(self, images, labels):
        """The cross entropy of each image, smoothed."""
        self.logits = self.network(images)
        logs = self.logits - self.logits.exp().sum(1, keepdim=True).log()
        target = torch.full_like(logs, self.smoothing / 10)
        target[range(len(labels)), labels] += 1 - self.smoothing
        return -(target * logs).sum(1)

    def input_gradient(self, images, labels, twice=False):
        """Of the mean loss."""
        images = images.clone().requires_grad_()
        return torch.autograd.grad(self.losses(images, labels).mean(), images, create_graph=twice)[0]

    def attack(self, images, labels, effort):
        """The perturbation, and the gradient at the images, once for both."""
        delta, first = torch.zeros_like(images), None
        for _ in range(effort.steps):
            gradient = self.input_gradient(images + delta, labels)
            first = gradient if first is None else first
            self.see("attack", gradient)
            delta = clip_to_ball(delta + effort.step_size * gradient.sign())
            delta = clip_to_box(images, delta) if self.boxed else delta
        return delta, first

    def run(self, effort):
        def train_minibatch(images, labels):
            delta, first = self.attack(images, labels, effort)
            weight = self.weight
            penalty = self.penalty(self, images, labels, delta, first)
            shown = (images + delta).requires_grad_()
            self.loss = self.losses(shown, labels).mean()
            self.see("update", torch.autograd.grad(self.loss, shown, retain_graph=True)[0])
            self.loss = self.loss + weight * penalty
            self.network.zero_grad()
            self.loss.backward()
            self.note(labels)
            for _ in range(2 if self.double_step else 1):
                self.update()

        return self.train(train_minibatch)


def aligned(self, images, labels, delta, first):
    """tml-epfl/understanding-fast-adv-training, train.py."""
    if first is None:
        first = self.input_gradient(images, labels)
    beside = self.input_gradient(images + self.uniform_noise(images), labels, twice=True)
    cosines = [
        (one * other).sum() / ((one**2).sum().sqrt() * (other**2).sum().sqrt())
        for one, other in zip(first, beside, strict=True)
    ]
    return 1 - sum(cosines) / len(cosines)


def triplet(self, images, labels, delta, first):
    """LIONS-EPFL/ELLE, README.md."""
    a = images + self.uniform_noise(images)
    b = images + self.uniform_noise(images)
    t = torch.rand(len(images), 1, 1, 1, generator=self.noise_generator)
    losses = self.losses(torch.cat([a, b, (1 - t) * a + t * b]), torch.cat([labels] * 3))
    n, t = len(images), t[:, 0, 0, 0]
    return ((losses[2 * n :] - ((1 - t) * losses[:n] + t * losses[n : 2 * n])) ** 2).mean()


def first_order(self, images, labels, delta, first, per_image=False):
    """LIONS-EPFL/ELLE, core/utils/train.py."""
    a = images + self.uniform_noise(images)
    b = images + self.uniform_noise(images)
    gradient = self.input_gradient(a, labels, twice=True) * (len(images) if per_image else 1)
    losses = self.losses(torch.cat([a, b]), torch.cat([labels, labels]))
    n = len(images)
    predicted = torch.stack([((b - a) * gradient)[i].sum() for i in range(n)])
    return ((losses[n:] - losses[:n] - predicted) ** 2).mean()


def first_order_of_each_image(*arguments):
    return first_order(*arguments, per_image=True)


def curvature(self, images, labels, delta, first):
    """LIONS-EPFL/ELLE, core/utils/train.py, whose mean loss is of 128 images."""
    if first is None:
        first = self.input_gradient(images, labels)
    difference = (first - self.input_gradient(images + delta, labels, twice=True)) * len(images) / 128
    return (difference**2).mean(0).sum()


OPTIONS = {
    "grad_align": {"weight": 0.2},
    "elle": {"weight": 10.0, "double_step": False},
    "llr": {"weight": 5.0, "double_step": False, "adaptive": False, "per_image": False},
    "cure": {"weight": 500.0, "double_step": False, "adaptive": False},
}
PENALTIES = {"grad_align": aligned, "elle": triplet, "llr": first_order, "cure": curvature}
ADAPTIVE = {"weight": 20.0, "decay": 0.9, "deviations": 0.5}


def both(method, effort, penalty=None, magnitude=None, smoothing=0.0, **changes):
    """Hold the suite's method against the reference, with the defaults but for `changes`."""
    options = OPTIONS[method] | changes
    given = {key: value for key, value in options.items() if key in ("weight", "double_step")}
    one = LinearReference(penalty or PENALTIES[method], boxed=method == "grad_align", smoothing=smoothing, **given)
    smoothed = {"label_smoothing": smoothing} if smoothing else {}
    assert_agrees(one.run(effort), method, effort, magnitude, **options, **smoothed)
    return one


each_method = pytest.mark.parametrize("method", OPTIONS)


@each_method
@pytest.mark.parametrize("effort", [FGSM, TWO, NONE], ids=["fgsm", "two steps", "no step"])
def test_weights_batch_norm_and_losses_are_those_of_the_paper_s_algorithm(method, effort):
    both(method, effort)


@each_method
def test_the_magnitude_is_of_the_cross_entropy_at_the_attacked_images_without_the_penalty(method):
    both(method, FGSM, magnitude="update")


@each_method
def test_labels_are_smoothed_in_the_attack_the_penalty_and_the_update(method):
    both(method, FGSM, smoothing=0.3)


@pytest.mark.parametrize("method", ["elle", "llr", "cure"])
def test_two_steps_of_the_optimizer_on_one_gradient(method):
    both(method, FGSM, double_step=True)


def test_llr_with_each_image_s_own_gradient():
    both("llr", FGSM, first_order_of_each_image, per_image=True)


@each_method
def test_the_attack_s_magnitude_is_of_its_last_step_and_never_of_the_penalty(method):
    both(method, TWO, magnitude="attack")


# -- ELLE-A -----------------------------------------------------------------------------------------------------------


def lambdas(errors, weight, decay, deviations):
    """What lambda is after each minibatch, as in LIONS-EPFL/ELLE: by the mean and deviation of all errors before."""
    now, past = 0.0, []
    for error in errors:
        if len(past) > 2 and error > statistics.fmean(past) + deviations * statistics.pstdev(past):
            now = weight
        else:
            now *= decay
        past.append(error)
        yield now


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("elle_a", {"weight": 20.0}),
        ("llr", {"weight": 5.0, "per_image": False, "adaptive": True}),
        ("cure", {"weight": 500.0, "adaptive": True}),
    ],
)
def test_an_adaptive_lambda_goes_up_where_the_penalty_jumps_and_decays(monkeypatch, method, options):
    monkeypatch.setattr(reference, "BATCHES", (6, 6, 3, 6, 6, 6, 6, 3, 6, 6))
    options = ADAPTIVE | options
    rule, penalties, used = {key: options[key] for key in ADAPTIVE}, [], []

    def adaptive(self, *arguments):
        penalty = PENALTIES[method.removesuffix("_a")](self, *arguments)
        penalties.append(penalty.item())
        used.append(self.weight)
        *_, self.weight = lambdas(penalties, **rule)  # for the next minibatch
        return penalty

    one = LinearReference(adaptive, 0.0).run(FGSM)
    assert_agrees(one, method, FGSM, **options, double_step=False)
    assert {0, rule["weight"]} <= set(used)
    assert any(0 < value < rule["weight"] for value in used)


def test_elle_a_follows_a_history_of_errors_with_jumps():
    published = {"weight": 4000.0, "decay": 0.99, "deviations": 2.0}
    method = load("elle_a")(None, **published)
    method.begin(reference.Split(12, (3, 8, 8), 10, torch.device("cpu")))
    generator = torch.Generator().manual_seed(0)
    errors = (1e-3 * (1 + torch.rand(60, generator=generator))).tolist()
    errors[1], errors[20], errors[40] = 1.0, 0.9, 5.0  # the first is too early to count, the next not large any more
    found = []
    for error in errors:
        method.adapt(torch.tensor(error))
        found.append(method.state["lambda"].item())
    expected = list(lambdas(errors, **published))
    assert found == pytest.approx(expected, rel=1e-9)
    assert expected[1] == 0.0
    assert 4000.0 in expected


def test_elle_a_before_any_jump_is_elle_without_its_penalty():
    one, _ = trained(
        "elle_a", FGSM, **ADAPTIVE, double_step=False
    )  # four minibatches: the last is the first that may jump
    other, _ = trained("elle", FGSM, weight=0.0, double_step=False)
    assert_same_networks(one, other)


# -- degenerate cases -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["elle", "llr", "cure"])
def test_without_a_penalty_it_is_fgsm_that_is_not_cut_to_the_box(method):
    """Up to the statistics of batch norm, which sees the penalty's images too."""
    network, _ = trained(method, FGSM, **OPTIONS[method] | {"weight": 0.0})
    fgsm = LinearReference(lambda *_: 0.0, 0.0).run(FGSM)
    for one, other in zip(network.parameters(), fgsm.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_grad_align_without_a_penalty_is_fast_from_zero():
    network, _ = trained("grad_align", Effort(1, 1.25 * EPS), weight=0.0)
    fast, _ = trained("fast", Effort(1, 1.25 * EPS), start="zero")
    for one, other in zip(network.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_images_without_a_gradient_are_left_out_of_the_alignment():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 5, 3, 2, 2, generator=generator)
    one[1], other[3] = 0, 0
    other.requires_grad_()
    kept = [0, 2, 4]
    cosines = [torch.dot(one[i].flatten(), other[i].flatten()) / one[i].norm() / other[i].norm() for i in kept]
    found = misalignment(one, other)
    assert found.item() == pytest.approx(1 - sum(cosines).item() / 3, rel=1e-12)
    (gradient,) = torch.autograd.grad(found, other)
    assert gradient.isfinite().all()
    assert [i for i in range(5) if gradient[i].any()] == kept


def test_where_no_image_has_a_gradient_the_alignment_is_0_and_has_none():
    zero = torch.zeros(2, 3, 2, 2).requires_grad_()
    found = misalignment(torch.zeros(2, 3, 2, 2), zero)
    (gradient,) = torch.autograd.grad(found, zero)
    assert found.item() == 0
    assert not gradient.any()


def test_cure_without_an_attack_has_nothing_to_penalise():
    one, _ = trained("cure", NONE, **OPTIONS["cure"])
    other, _ = trained("cure", NONE, **OPTIONS["cure"] | {"weight": 0.0})
    assert_same_networks(one, other)


@pytest.mark.parametrize("method", [*OPTIONS, "elle_a"])
def test_the_order_of_images_in_a_minibatch_does_not_matter(method):
    images, labels = next(iter(reference.minibatches()))
    order, found = torch.tensor([3, 0, 5, 1, 4, 2]), []
    for permuted in (slice(None), order):
        network = reference.new_network()
        learner = Learner(network, torch.optim.SGD(network.parameters(), lr=1.0))
        learner.begin_batch(labels[permuted], lambda update: 0.05)
        method_ = load(method)(NoNoise(EPS), **OPTIONS.get(method, ADAPTIVE | {"double_step": False}))
        method_.begin(reference.Split(12, (3, 8, 8), 10, torch.device("cpu")))
        batch = Batch(images[permuted], labels[permuted], *(p[..., permuted] for p in reference.places(0)))
        method_.train_batch(learner, batch, FGSM)
        found.append(network)
    assert_same_networks(*found)


class NoNoise(reference.Linf):
    """Its points are the images' own: noise would be another's in another order."""

    def noise(self, images, radius=None):
        return (0.5 * EPS * (images * 40).sin()).detach().requires_grad_()


def test_the_references_tell_the_methods_apart():
    runs = [LinearReference(penalty, OPTIONS[name]["weight"]).run(FGSM) for name, penalty in PENALTIES.items()]
    runs.append(LinearReference(first_order_of_each_image, 5.0).run(FGSM))
    runs.append(LinearReference(triplet, 10.0, double_step=True).run(FGSM))
    for place, one in enumerate(runs):
        for other in runs[:place]:
            pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
            assert max((a - b).abs().max().item() for a, b in pairs) > 1e-6
