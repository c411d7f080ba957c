"""The suite's PGD and margin PGD against attacks that others wrote and maintain, on a checkpoint of the suite.

Matched: the network and its weights, all 360 test images, radius, step size, number of steps and of restarts, a random
start uniform in the ball and cut to the box, signed steps (in L2 along the gradient at length 1), projection to ball
and box; and that an image is broken if any iterate is misclassified, from each start to what the last step reaches.
Allowed: half a point, one image of 360.
"""

import shutil
import sys
import types

import pytest
import torch

from evaluation.run import evaluate
from evaluation.verify import attack

EPS, STEPS, STEP_SIZE, RESTARTS = 0.1, 20, 0.025, 2
ALLOWED = 0.005 * 360

pytestmark = [pytest.mark.crosscheck, pytest.mark.slow]


def robust_against_foolbox(network, images, labels, *, eps=EPS, kind="LinfPGD", step_size=STEP_SIZE) -> torch.Tensor:
    """Foolbox returns the last iterate alone: what the network says of all the others is noted on the way."""
    import foolbox

    robust = network(images).argmax(1) == labels

    def note(_network, _inputs, logits):
        robust.logical_and_(logits.detach().argmax(1) == labels)

    hook = network.register_forward_hook(note)
    attack = getattr(foolbox.attacks, kind)(abs_stepsize=step_size, steps=STEPS, random_start=True)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    for _ in range(RESTARTS):
        last = attack.run(model, images, foolbox.criteria.Misclassification(labels), epsilon=eps)
        with torch.no_grad():
            network(last)
    hook.remove()
    return robust


def robust_against_adv_lib(network, images, labels) -> torch.Tensor:
    """Its "dl" is the margin; it never classifies what its last step reaches, so it gets one step more."""
    from adv_lib.attacks import pgd_linf

    options = {"random_init": True, "restarts": 1, "loss_function": "dl", "absolute_step_size": STEP_SIZE}
    adversarial = pgd_linf(network, images, labels, EPS, steps=STEPS + 1, **options)
    return network(adversarial).argmax(1) == labels


@pytest.fixture
def folder(checkpoint, tmp_path):
    return shutil.copytree(checkpoint.folder, tmp_path / "seed0")


def settings(checkpoint, name):
    found = checkpoint.suite.attack(name)
    return found["threat"]["eps"], found["step_size"], found["restarts"], found["images"]


def test_pgd_breaks_as_many_images_as_foolbox_s(checkpoint, folder):
    assert settings(checkpoint, "pgd-20") == (EPS, STEP_SIZE, RESTARTS, None)
    ours = evaluate(checkpoint.suite, checkpoint.run, "pgd-20", folder)
    torch.manual_seed(0)
    theirs = robust_against_foolbox(checkpoint.network(), checkpoint.images, checkpoint.labels)
    assert len(theirs) == ours["images"] == 360
    assert 36 < ours["correct"] < 324  # a checkpoint on which the attack could be wrong
    assert abs(ours["correct"] - int(theirs.sum())) <= ALLOWED


def test_pgd_in_l2_breaks_as_many_images_as_foolbox_s(checkpoint):
    eps, step_size = 0.6, 0.15
    settings = {"name": f"pgd-{STEPS}", "threat": {"norm": "l2", "eps": eps}, "step_size": step_size}
    network, images, labels = checkpoint.network(), checkpoint.images, checkpoint.labels
    ours = attack({**settings, "restarts": RESTARTS}, network, images, labels, seed=0)
    torch.manual_seed(0)
    theirs = robust_against_foolbox(network, images, labels, eps=eps, kind="L2PGD", step_size=step_size)
    assert 36 < ours.robust.sum() < 324
    assert abs(int(ours.robust.sum()) - int(theirs.sum())) <= ALLOWED
    right, wrong = (
        int(robust_against_foolbox(network, images, labels, eps=radius, kind="L2PGD", step_size=step_size).sum())
        for radius in (eps, 0.9 * eps)
    )
    assert abs(right - wrong) > ALLOWED  # a radius a tenth off would be seen


def test_margin_pgd_breaks_as_many_images_as_adv_lib_s(checkpoint, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "visdom", types.ModuleType("visdom"))  # what it draws plots with, if asked to
    assert settings(checkpoint, "margin-20") == (EPS, STEP_SIZE, 1, None)
    ours = evaluate(checkpoint.suite, checkpoint.run, "margin-20", folder)
    torch.manual_seed(0)
    theirs = robust_against_adv_lib(checkpoint.network(), checkpoint.images, checkpoint.labels)
    assert len(theirs) == ours["images"] == 360
    assert abs(ours["correct"] - int(theirs.sum())) <= ALLOWED


def test_a_radius_a_tenth_off_would_be_seen(checkpoint):
    network, images, labels = checkpoint.network(), checkpoint.images, checkpoint.labels
    right, wrong = (int(robust_against_foolbox(network, images, labels, eps=eps).sum()) for eps in (EPS, 0.9 * EPS))
    assert abs(right - wrong) > ALLOWED
