"""The attacks that a suite names, and the check that nothing counts as broken which is not."""

import logging
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyautoattack import AutoAttack
from torch import nn

from evaluation import fast_inference, package
from evaluation.verify import attack, verify
from experiment import attacks, pgd, plugins
from experiment.suite import ROOT, Suite
from experiment.threats.linf import Linf

EPS = 0.1
GRADIENT_ATTACKS = ["fgsm", "pgd-4", "margin-4"]


def settings_of(name, eps=EPS, **options):
    """Of an attack, as a suite resolves it."""
    suite = Suite.from_mapping(
        {
            "suite": "attacks",
            "datasets": ["digits"],
            "network": {"name": "small_cnn"},
            "threat": {"eps": eps},
            "training": {"epochs": 1, "batch_size": 64, "lr": 0.1},
            "evaluation": {"attacks": [{"name": name, **options}]},
            "seeds": [0],
            "variants": [{"label": "it", "method": "pgd"}],
        }
    )
    return suite.attack(name)


def linear(seed=0, pixels=16, classes=10):
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).eval().requires_grad_(False)
    network[1].weight.copy_(torch.randn(classes, pixels, generator=generator))
    network[1].bias.zero_()
    return network


def problem(network, count=12, seed=1, wrong=1, side=4):
    """Images, some pixels exactly 0 or 1, and the network's own labels but for the first `wrong` images."""
    images = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))
    images[images < 0.1], images[images > 0.9] = 0, 1
    labels = network(images).argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return images, labels


def threat(eps=EPS):
    return Linf(eps)


def is_breakable(network, images, labels, eps):
    """Whether any image of the ball and the box breaks a linear network: exact, class against class."""
    weight, bias = network[1].weight.double(), network[1].bias.double()
    x = images.flatten(1).double()
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    breakable = torch.zeros(len(x), dtype=torch.bool)
    for other in range(len(weight)):
        direction = weight[other] - weight[labels]
        best = torch.where(direction > 0, high, low)
        breakable |= (((best * direction).sum(1) + bias[other] - bias[labels]) > 0) & (labels != other)
    return breakable


# -- attacks by name --------------------------------------------------------------------------------------------------


def test_clean_verdicts_are_the_network_s_own():
    images, labels = problem(linear(), wrong=5)
    verdicts = attack(settings_of("clean"), linear(), images, labels, seed=0)
    assert verdicts.flags == []
    assert verdicts.robust.tolist() == [False] * 5 + [True] * 7


@pytest.mark.slow
@pytest.mark.parametrize("name", GRADIENT_ATTACKS)
@given(seed=st.integers(0, 1000), eps=st.sampled_from([0.01, 0.05, 0.2]))
def test_an_attack_breaks_nothing_that_no_perturbation_of_the_ball_breaks(name, seed, eps):
    network = linear(seed)
    images, labels = problem(network, seed=seed)
    robust = attack(settings_of(name, eps), network, images, labels, seed=seed).robust
    breakable = is_breakable(network, images, labels, eps)
    assert not (~robust & ~breakable).any()
    assert not robust[0]


def test_margin_pgd_breaks_nearly_all_that_can_be_broken_in_a_linear_network():
    network = linear()
    images, labels = problem(network, count=200, wrong=0)
    settings = settings_of("margin-20", 0.05, restarts=2)
    robust = attack(settings, network, images, labels, seed=0).robust
    breakable = is_breakable(network, images, labels, 0.05)
    assert 20 < breakable.sum() < 180
    assert (~robust).sum() >= 0.95 * breakable.sum()


def test_the_name_the_step_size_and_the_restarts_are_what_is_run(monkeypatch):
    asked, network, real = {}, linear(), pgd.attack
    images, labels = problem(network)

    def note(network, images, labels, threat, **options):
        asked.update(options)
        return real(network, images, labels, threat, **options)

    monkeypatch.setattr(pgd, "attack", note)
    attack(settings_of("margin-3", step_size="0.5 eps", restarts=4), network, images, labels, seed=0)
    assert asked == {"steps": 3, "step_size": 0.5 * EPS, "restarts": 4, "loss": pgd.margin, "batch_size": 12}
    asked.clear()
    attack(settings_of("pgd-7"), network, images, labels, seed=0)
    options = {"steps": 7, "step_size": 0.25 * EPS, "restarts": 1, "loss": pgd.cross_entropy, "batch_size": 12}
    assert asked == options
    asked.clear()
    attack(settings_of("fgsm"), network, images, labels, seed=0)
    assert asked == {"steps": 1, "step_size": EPS, "random_start": False, "batch_size": 12}


def test_a_seed_says_what_is_drawn_and_global_random_numbers_do_not():
    network = linear()
    images, labels = problem(network, count=300)
    settings = settings_of("pgd-1", step_size=0.001)
    torch.manual_seed(1)
    one = attack(settings, network, images, labels, seed=0).robust
    torch.manual_seed(2)
    assert torch.equal(attack(settings, network, images, labels, seed=0).robust, one)
    assert not torch.equal(attack(settings, network, images, labels, seed=1).robust, one)


# -- the check --------------------------------------------------------------------------------------------------------


def broken_images(network, images, labels):
    """Images far outside the ball, all misclassified."""
    far = images.clone()
    for index, label in enumerate(labels):
        other = (label + 1) % 10
        far[index] = ((network[1].weight[other] - network[1].weight[label]) > 0).float().reshape(1, 4, 4)
    assert (network(far).argmax(1) != labels).all()
    return far


@pytest.mark.parametrize("outside", [1, 4])
def test_an_adversarial_image_outside_the_ball_does_not_count_and_is_flagged(outside):
    network = linear()
    images, labels = problem(network, wrong=0)
    adversarial = images.clone()
    adversarial[:outside] = broken_images(network, images, labels)[:outside]
    verdicts = verify(network, images, adversarial, labels, threat(), [])
    assert verdicts.robust.all()
    assert verdicts.flags == [f"{outside} adversarial images outside the threat model do not count"]
    assert not verify(network, images, adversarial, labels, threat(eps=1.0), []).robust[:outside].any()


@pytest.mark.parametrize("pixel", [-1e-4, 1 + 1e-4, float("nan")])
def test_an_adversarial_image_outside_the_box_or_not_finite_does_not_count_and_is_flagged(pixel):
    network = linear()
    images, labels = problem(network, wrong=0)
    adversarial = broken_images(network, images, labels)
    adversarial[3, 0, 2, 2] = pixel
    verdicts = verify(network, images, adversarial, labels, threat(eps=1.0), ["said before"])
    assert verdicts.robust.tolist() == [index == 3 for index in range(12)]
    assert verdicts.flags == ["said before", "1 adversarial images outside the threat model do not count"]


def test_an_image_that_the_network_gets_wrong_is_broken_whatever_was_made_of_it():
    network = linear()
    images, labels = problem(network, wrong=0)
    wrong = (labels + 1) % 10
    far = broken_images(network, images, labels)
    for adversarial in (images, far, torch.full_like(images, float("nan"))):
        assert not verify(network, images, adversarial, wrong, threat(), []).robust.any()


def test_an_adversarial_image_that_is_classified_right_breaks_nothing():
    network = linear()
    images, labels = problem(network, wrong=0)
    verdicts = verify(network, images, (images + 1e-4).clamp(0, 1), labels, threat(), [])
    assert verdicts.flags == []
    assert verdicts.robust.all()


def test_a_package_that_claims_too_much_is_not_believed(monkeypatch):
    network = linear()
    images, labels = problem(network, wrong=0)
    far = broken_images(network, images, labels)
    asked, claim = {}, pgd.Attacked(torch.zeros(12, dtype=torch.bool), far)
    monkeypatch.setattr(package, "attack", lambda *_, **options: asked.update(options) or (claim, ["a warning"]))
    verdicts = attack(settings_of("autoattack"), network, images, labels, seed=5)
    assert asked == {"seed": 5, "batch_size": 12}
    assert verdicts.robust.all()
    assert verdicts.flags == ["a warning", "12 adversarial images outside the threat model do not count"]


# -- successes that the network itself does not confirm ---------------------------------------------------------------


def searching_on(monkeypatch, network):
    monkeypatch.setattr(fast_inference, "searched", lambda *_: network)


class Contrary(nn.Module):
    """Gives every image another class than the network does."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).roll(1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*GRADIENT_ATTACKS, "autoattack"])
def test_a_searching_network_that_finds_all_images_wrong_makes_none_look_robust(monkeypatch, name):
    network = linear()
    images, labels = problem(network, count=6)
    expected = attack(settings_of(name, 0.03), network, images, labels, seed=0)
    assert 0 < expected.robust.sum() < 5
    searching_on(monkeypatch, Contrary(network))
    verdicts = attack(settings_of(name, 0.03), network, images, labels, seed=0)
    assert torch.equal(verdicts.robust, expected.robust)
    right = (network(images).argmax(1) == labels) & (network(verdicts.adversarial).argmax(1) == labels)
    assert torch.equal(verdicts.robust, right)
    assert verdicts.flags == []


@given(seed=st.integers(0, 1000), noise=st.sampled_from([0.03, 0.3, 3.0]))
def test_whatever_the_search_ran_on_a_verdict_is_the_network_s_own(seed, noise):
    network, other = linear(seed), linear(seed)
    other[1].weight.add_(noise * torch.randn(10, 16, generator=torch.Generator().manual_seed(seed)))
    images, labels = problem(network, count=30, seed=seed, wrong=3)
    with pytest.MonkeyPatch.context() as monkeypatch:
        searching_on(monkeypatch, other)
        verdicts = attack(settings_of("margin-4"), network, images, labels, seed=seed)
    assert threat().admits(images, verdicts.adversarial).all()
    right = (network(images).argmax(1) == labels) & (network(verdicts.adversarial).argmax(1) == labels)
    assert torch.equal(verdicts.robust, right)


def test_successes_that_are_confirmed_neither_then_nor_when_the_network_itself_is_attacked_are_flagged(monkeypatch):
    network = linear()
    images, labels = problem(network, wrong=2)

    def claim_all(network, images, labels, threat, **options):
        return pgd.Attacked(torch.zeros_like(labels, dtype=torch.bool), images)

    monkeypatch.setattr(pgd, "attack", claim_all)
    verdicts = attack(settings_of("pgd-4"), network, images, labels, seed=0)
    assert verdicts.robust.tolist() == [False] * 2 + [True] * 10
    assert verdicts.flags == ["10 successes of the search were not confirmed and count as robust"]


def test_warnings_of_the_second_attack_are_flags_too_and_none_is_said_twice(monkeypatch):
    network, warnings = linear(), [["first"], ["first", "second"]]
    images, labels = problem(network, wrong=0)

    def claim_all(network, images, labels, threat, **options):
        return pgd.Attacked(torch.zeros_like(labels, dtype=torch.bool), images), warnings.pop(0)

    monkeypatch.setattr(package, "attack", claim_all)
    flags = attack(settings_of("autoattack"), network, images, labels, seed=0).flags
    assert flags == ["first", "second", "12 successes of the search were not confirmed and count as robust"]


def test_a_confirmed_success_is_not_searched_for_again(monkeypatch):
    network, searches = linear(), []
    images, labels = problem(network, count=30)
    real = pgd.attack
    monkeypatch.setattr(pgd, "attack", lambda *args, **options: searches.append(len(args[1])) or real(*args, **options))
    attack(settings_of("pgd-4"), network, images, labels, seed=0)
    assert searches == [30]


# -- AutoAttack -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_autoattack_finds_what_can_be_broken_and_nothing_else():
    network = linear()
    images, labels = problem(network, count=6, wrong=1)
    breakable = is_breakable(network, images, labels, 0.02)
    assert 0 < breakable[1:].sum() < 5
    verdicts = attack(settings_of("autoattack", 0.02), network, images, labels, seed=0)
    assert verdicts.robust.tolist() == (~breakable).tolist()
    assert verdicts.flags == []
    assert {parameter.grad for parameter in network.parameters()} == {None}


class Quantised(nn.Module):
    """Rounds its input to eighths, so that every gradient is zero."""

    def __init__(self):
        super().__init__()
        self.network = linear()

    def forward(self, x):
        return self.network((x * 8).round() / 8)


@pytest.mark.slow
def test_autoattack_s_warnings_are_flags_and_a_seed_makes_it_reproducible(caplog):
    network = Quantised()
    images, labels = problem(network.network, count=3, wrong=0)
    labels = network(images).argmax(1)
    logger = logging.getLogger("auto-attack")
    before = list(logger.handlers), logger.propagate
    one, again = (attack(settings_of("autoattack", 0.06), network, images, labels, seed=7) for _ in range(2))
    assert any("zero gradient" in flag for flag in one.flags)
    assert len(set(one.flags)) == len(one.flags)
    assert torch.equal(one.robust, again.robust)
    assert one.flags == again.flags
    assert (list(logger.handlers), logger.propagate) == before
    assert caplog.records == []  # they are in the record, and need not clutter a log too


def test_autoattack_s_seed_says_which_adversarial_images_are_found():
    network = linear()
    images, labels = problem(network, count=4, wrong=0)
    made = [package.attack(network, images, labels, threat(0.2), seed=seed, batch_size=4)[0] for seed in (0, 0, 1)]
    assert torch.equal(made[0].adversarial, made[1].adversarial)
    assert not torch.equal(made[0].adversarial, made[2].adversarial)
    for attacked in made:
        assert threat(0.2).admits(images, attacked.adversarial).all()
        assert not attacked.robust.any()
        assert (network(attacked.adversarial).argmax(1) != labels).all()


@pytest.mark.slow
def test_autoattack_claims_the_images_that_it_misclassifies_and_no_others():
    network = linear()
    images, labels = problem(network, count=6, wrong=1)
    attacked, _ = package.attack(network, images, labels, threat(0.02), seed=0, batch_size=4)
    assert 0 < attacked.robust.sum() < 5
    assert torch.equal(attacked.robust, network(attacked.adversarial).argmax(1) == labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part", "options", "norm", "eps"),
    [
        ("square", "square", {"queries": 300}, "linf", 0.03),
        ("square", "square", {"queries": 300}, "l2", 0.3),
        ("fab", "fab-t", {"steps": 20}, "linf", 0.02),
        ("fab", "fab-t", {"steps": 20}, "l2", 0.1),
        ("apgd", "apgd-ce", {"restarts": 2}, "linf", 0.02),
        ("apgd", "apgd-ce", {"restarts": 2}, "l2", 0.1),
    ],
)
def test_a_part_of_autoattack_alone_is_the_package_s(name, part, options, norm, eps):
    network = linear(pixels=64)
    images, labels = problem(network, count=8, wrong=0, side=8)
    adversary = AutoAttack(network, norm=norm.capitalize(), eps=eps, seed=3, version="custom", attacks=[part])
    adversary.square.n_queries, adversary.fab.n_iter, adversary.apgd.n_restarts = 300, 20, 2
    theirs, _ = adversary.run_standard_evaluation(images, labels, batch_size=8)
    settings = {"name": name, "threat": {"norm": norm, "eps": eps}, **options}
    its, model = attacks.of_settings(settings), plugins.load("threat", norm)(eps)
    found, flags = its.search(network, images, labels, model, seed=3, batch_size=8)
    assert torch.equal(found.adversarial, theirs)
    assert 0 < found.robust.sum() < 8
    assert flags == []
    verdicts = attack(settings, network, images, labels, seed=3)
    assert not (verdicts.robust & ~found.robust).any()


# -- L2 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fgsm", "pgd-20", "margin-20", "autoattack"])
def test_in_l2_every_success_lies_in_the_ball_and_the_box_and_is_misclassified(name):
    """Of a linear network the nearest adversarial image outside the box is known: none nearer is found."""
    network = linear(pixels=64)
    images, labels = problem(network, count=8, wrong=1, side=8)
    settings = {"name": name, "threat": {"norm": "l2", "eps": 0.12}, "step_size": 0.03, "restarts": 1}
    verdicts = attack(settings, network, images, labels, seed=0)
    weight, logits = network[1].weight.double(), network(images).double()
    differences = torch.linalg.vector_norm(weight[None] - weight[labels][:, None], dim=2)
    distance = (logits.gather(1, labels[:, None]) - logits) / differences.clamp_min(1e-9)
    nearest = distance.scatter(1, labels[:, None], torch.inf).amin(1)
    assert 0 < (~verdicts.robust).sum() < 8
    assert not (~verdicts.robust & (nearest > 0.12)).any()
    broken = ~verdicts.robust
    moved = (verdicts.adversarial - images).double().flatten(1)[broken]
    assert torch.linalg.vector_norm(moved, dim=1).max() <= 0.12 + 1e-6
    assert ((verdicts.adversarial >= 0) & (verdicts.adversarial <= 1)).all()
    assert (network(verdicts.adversarial).argmax(1) != labels)[broken].all()
    if name in ("margin-20", "autoattack"):
        assert (~verdicts.robust[nearest < 0.1]).all()


# -- what others ask of attacks ---------------------------------------------------------------------------------------


def of(name, eps=EPS, **options):
    return attacks.of_settings({"name": name, "threat": {"norm": "linf", "eps": eps}, "step_size": 0.025, **options})


def test_an_attack_outdoes_those_of_less_strength_in_a_ball_no_larger():
    names = ["clean", "fgsm", "pgd-20", "margin-20", "autoattack"]
    outdone = {one: [other for other in names if of(one).outdoes(of(other))] for one in names}
    assert outdone == {
        "clean": [],
        "fgsm": ["clean"],
        "pgd-20": ["clean", "fgsm"],
        "margin-20": ["clean", "fgsm"],
        "autoattack": ["clean", "fgsm", "pgd-20", "margin-20"],
    }
    assert not of("autoattack", eps=0.05).outdoes(of("pgd-20"))


@pytest.mark.parametrize(
    ("one", "other", "outdoes"),
    [
        (of("pgd-20"), of("pgd-10"), True),
        (of("pgd-10"), of("pgd-20"), False),
        (of("pgd-20", restarts=10), of("pgd-20"), True),
        (of("pgd-20", restarts=10), of("pgd-50"), False),
        (of("pgd-20"), of("pgd-20", seed=1), False),
        (of("pgd-50", step_size=0.001), of("pgd-20"), False),  # does not reach as far
        (of("pgd-20", eps=0.2, step_size=0.05), of("pgd-20"), True),
        (of("pgd-7"), of("fgsm"), False),  # not from every start to every face
        (of("pgd-20"), of("margin-20"), False),
    ],
)
def test_pgd_outdoes_what_has_no_more_steps_restarts_reach_and_radius(one, other, outdoes):
    assert one.outdoes(other) == outdoes


def test_how_many_steps_of_what_length_and_how_often_from_anew_an_attack_takes():
    assert of("clean").iterations == of("autoattack").iterations == dict.fromkeys(["steps", "step_size", "restarts"])
    assert of("fgsm").iterations == {"steps": 1, "step_size": EPS, "restarts": 1}
    assert of("pgd-20", restarts=3).iterations == {"steps": 20, "step_size": 0.025, "restarts": 3}


def test_no_attack_s_file_needs_torch_to_be_read_and_each_says_what_it_is():
    code = (
        "import sys; from experiment import plugins\n"
        "for name in plugins.names('attack'):\n"
        "    cls = plugins.load('attack', name); cls.display, cls.paper, plugins.parameters('attack', name)\n"
        "    print(name); assert not {'torch', 'pyautoattack'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["apgd", "autoattack", "clean", "fab", "fgsm", "margin", "pgd", "square"]
