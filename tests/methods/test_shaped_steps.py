"""Methods that shape a perturbation or its update by what the network makes of it, against naive references."""

import pytest
import reference as references
import torch
from reference import EPS, SEED, Reference, assert_agrees, clip_to_ball, clip_to_box, new_network, places, position

from experiment.effort import Effort
from experiment.threats.linf import Linf
from methods import Batch, load
from training.learner import Learner

pytestmark = pytest.mark.usefixtures("float64", "labels_that_are_partly_right")


@pytest.fixture
def labels_that_are_partly_right(monkeypatch):
    """Of each minibatch, two labels in three are what the untrained network says: what a method does turns on it."""
    network, made = new_network(), []
    for images, labels in references.minibatches():
        said = network(images).argmax(1)
        said[::3] = labels[::3]
        made.append((images, said))
    monkeypatch.setattr(references, "minibatches", lambda: iter(made))


def perturbed(name, effort, **options):
    """A learner of the untrained network, the first minibatch, and the method's perturbation of it."""
    network = new_network()
    learner = Learner(network, torch.optim.SGD(network.parameters(), lr=1.0))
    images, labels = next(references.minibatches())
    method = load(name)(Linf(EPS, torch.Generator().manual_seed(SEED)), **options)
    scalars = {key: torch.tensor(value) for key, value in method.schedule(position(0)).items()}
    batch = Batch(images, labels, *places(0), scalars)
    learner.begin_batch(labels, lambda update: 0.1)
    return learner, batch, method.perturbation(learner, batch, effort).detach()


# -- SSAT --------------------------------------------------------------------------------------------------------------


def ssat(steps, step_size, parts, crafting_batch_norm="train"):
    """Kim et al., 2021, as in Harry24k/catastrophic-overfitting, image by image; theirs is one step."""
    reference = Reference()
    reference.cut, reference.clean = 0, 0

    def train_minibatch(images, labels):
        delta = clip_to_box(images, reference.uniform_noise(images))
        reference.network.train(crafting_batch_norm == "train")
        wrong_at_the_start = [False] * len(labels)
        for step in range(steps):
            gradient = reference.gradients(images, delta, labels)
            if step == 0:
                wrong_at_the_start = (reference.logits.argmax(1) != labels).tolist()
            delta = clip_to_box(images, clip_to_ball(delta + step_size * gradient.sign()))
        fooled = [reference.network(images + k * delta / parts).argmax(1) != labels for k in range(1, parts)]
        for i, wrong in enumerate(wrong_at_the_start):
            failing = [k for k in range(1, parts) if fooled[k - 1][i]]
            if wrong:
                delta[i] = 0
                reference.clean += 1
            elif failing:
                delta[i] *= min(failing) / parts
                reference.cut += 1
        reference.learn(images, delta, labels)

    return reference.train(train_minibatch)


@pytest.mark.parametrize("crafting_batch_norm", ["train", "eval"])
@pytest.mark.parametrize(("steps", "parts"), [(1, 3), (1, 1), (2, 4), (0, 3)])
def test_ssat_is_the_paper_s_algorithm(steps, parts, crafting_batch_norm):
    options = {"parts": parts, "crafting_batch_norm": crafting_batch_norm}
    effort = Effort(steps, 1.25 * EPS)
    assert_agrees(ssat(steps, effort.step_size, **options), "ssat", effort, "update", **options)


def test_the_minibatches_have_images_of_each_of_ssat_s_kinds():
    reference = ssat(1, 1.25 * EPS, 3)
    assert reference.clean > 0
    assert reference.cut > 0
    assert reference.clean + reference.cut < 21


def test_ssat_of_one_part_is_fgsm_rs_but_for_the_images_that_are_wrong_where_it_starts():
    effort = Effort(1, 1.25 * EPS)
    (learner, batch, found), (*_, expected) = (
        perturbed("ssat", effort, parts=1),
        perturbed("fast", effort, start="random"),
    )
    start = perturbed("ssat", Effort(0, 1.0), parts=1)[2]
    right = learner.craft(batch.images + start).argmax(1) == batch.labels
    assert 0 < right.sum() < len(batch)
    assert torch.equal(found[right], expected[right])
    assert not found[~right].any()
