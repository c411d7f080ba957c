"""What a minibatch spends, against counts by hand: whatever a method does, and however, is in `compute`.

FORWARD is one image through small_cnn on 8x8 pixels, and FIRST its first convolution's part of that. A gradient for an
input and one for a weight take as much as the forward, layer by layer; the images' own is left out where none is asked
for.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from session import BATCH, Session, build_network, random_minibatches
from torch.utils.flop_counter import FlopCounterMode

from experiment.effort import Effort
from training.counts import FlopCounter, Spent, count_passes, ordinary_flops

FIRST = 2 * 9 * 1 * 16 * 8 * 8  # 2 operations a multiplication and addition, 3x3 pixels, channels, places
FORWARD = FIRST + 2 * 9 * 16 * 32 * 4 * 4 + 2 * 9 * 32 * 64 * 2 * 2 + 2 * 64 * 2 * 2 * 10
FULL = 3 * FORWARD - FIRST  # a forward, and a backward to all weights
STEPS = 3


def spent(session, train_batch=None, steps=STEPS):
    """What one minibatch takes an image; updates are of the minibatch."""
    if train_batch is not None:
        session.method.train_batch = train_batch
    images, labels = next(random_minibatches())
    session.train(images, labels, Effort(steps, 0.05))  # what is made in the first minibatch is there in the next
    before = Spent(**session.learner.spent.as_dict())
    with FlopCounter() as counter:
        session.train(images, labels, Effort(steps, 0.05))
    session.assert_passes_counted()
    found = session.learner.spent.since(before)
    assert found.forwards % BATCH == found.backwards % BATCH == counter.flops % BATCH == 0
    return Spent(counter.flops // BATCH, found.forwards // BATCH, found.backwards // BATCH, found.updates)


def test_an_ordinary_pass_is_a_forward_and_a_backward_to_the_weights():
    session = Session("pgd")
    images, _ = next(random_minibatches())
    assert ordinary_flops(build_network(), images) == BATCH * FULL
    assert spent(session, steps=0) == Spent(FULL, 1, 1, 1)


# -- the suite's methods, as their READMEs say -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("pgd", Spent(STEPS * 2 * FORWARD + FULL, STEPS + 1, STEPS + 1, 1)),
        ("fast", Spent(STEPS * 2 * FORWARD + FULL, STEPS + 1, STEPS + 1, 1)),
        ("n_fgsm", Spent(STEPS * 2 * FORWARD + FULL, STEPS + 1, STEPS + 1, 1)),
        ("free", Spent(STEPS * 3 * FORWARD, STEPS, STEPS, STEPS)),
        ("deat", Spent(STEPS * 3 * FORWARD, STEPS, STEPS, STEPS)),
        ("yopo", Spent(STEPS * (FULL + (3 + 1) * 2 * FIRST), STEPS, STEPS, 1)),
    ],
)
def test_the_methods_spend_what_their_readmes_say(method, expected):
    assert spent(Session(method)) == expected


def test_the_magnitude_s_gradient_is_counted_too():
    assert spent(Session("pgd", "mplus")).flops == STEPS * 2 * FORWARD + 3 * FORWARD


# -- methods of other kinds --------------------------------------------------------------------------------------------


def kl(logits, target):
    return F.kl_div(F.log_softmax(logits, 1), F.softmax(target, 1), reduction="batchmean")


def crafted(session, learner, images, effort):
    """TRADES' perturbation: a forward of the clean images, and as many input gradients as there are steps."""
    with torch.no_grad():
        target = learner.craft(images)
    delta = session.threat.random_start(images)
    for _ in range(effort.steps):
        gradient = learner.input_gradient(kl(learner.craft(images + delta), target), delta)
        delta = session.threat.ascend(images, delta, gradient, effort.step_size)
    return delta


def trades_in_two_forwards(session):
    def train_batch(learner, batch, effort):
        images, labels = batch.images, batch.labels
        delta = crafted(session, learner, images, effort)
        clean, attacked = learner(images), learner(images + delta)
        learner.descend(F.cross_entropy(clean, labels) + 6 * kl(attacked, clean), attacked)

    return train_batch


def trades_in_one(session):
    def train_batch(learner, batch, effort):
        images, labels = batch.images, batch.labels
        delta = crafted(session, learner, images, effort)
        clean, attacked = learner(torch.cat([images, images + delta])).chunk(2)
        learner.descend(F.cross_entropy(clean, labels) + 6 * kl(attacked, clean), attacked)

    return train_batch


@pytest.mark.parametrize("trades", [trades_in_two_forwards, trades_in_one])
def test_two_minibatches_cost_the_same_in_two_forwards_and_in_one(trades):
    session = Session("pgd")
    expected = Spent(FORWARD + STEPS * 2 * FORWARD + 2 * FULL, 1 + STEPS + 2, STEPS + 2, 1)
    assert spent(session, trades(session)) == expected


@pytest.mark.parametrize("through_the_learner", [True, False])
def test_a_gradient_of_a_gradient_is_counted(through_the_learner):
    """A forward, its input gradient, the two products that each layer's input gradient depends on, and a backward.

    PyTorch computes some of these by convolutions that are larger than they need be, and they are counted as executed.
    """

    def train_batch(learner, batch, effort):
        images, labels = batch.images, batch.labels
        images = images.detach().requires_grad_()
        logits = learner(images)
        loss = F.cross_entropy(logits, labels)
        if through_the_learner:
            gradient = learner.input_gradient(loss, images, create_graph=True)
        else:
            (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
        learner.descend(loss + gradient.square().sum(), logits)

    found = spent(Session("pgd"), train_batch)
    assert (found.forwards, found.backwards, found.updates) == (1, 2, 1)
    least = FORWARD + FORWARD + 2 * FORWARD + (FULL - FORWARD)
    assert least <= found.flops < 1.2 * least


def test_a_teacher_s_forward_is_compute_and_no_pass():
    session = Session("pgd")
    teacher = build_network().eval()

    def train_batch(learner, batch, effort):
        images = batch.images
        with torch.no_grad():
            target = teacher(images)
        logits = learner(images)
        learner.descend(kl(logits, target), logits)

    assert spent(session, train_batch) == Spent(FORWARD + FULL, 1, 1, 1)


def test_steps_through_the_first_layer_are_compute_and_no_pass():
    session = Session("pgd")

    def train_batch(learner, batch, effort):
        images, labels = batch.images, batch.labels
        logits = learner(images)
        learner.descend(F.cross_entropy(logits, labels), logits)
        delta = session.threat.random_start(images)
        for _ in range(effort.steps):
            gradient = learner.input_gradient(learner.first_layer(images + delta).square().sum(), delta)
            delta = session.threat.ascend(images, delta, gradient, effort.step_size)

    assert spent(session, train_batch) == Spent(FULL + STEPS * 2 * FIRST, 1, 1, 1)


def test_what_goes_round_the_learner_is_counted():
    """The network called by itself, in evaluation mode, with gradients taken by PyTorch's own functions."""
    session = Session("pgd")

    def train_batch(learner, batch, effort):
        images, labels = batch.images, batch.labels
        learner.network.eval()
        moved = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(learner.network(moved), labels), moved)
        learner.network.train()
        logits = learner((images + effort.step_size * gradient.sign()).clamp(0, 1))
        learner.descend(F.cross_entropy(logits, labels), logits)

    assert spent(session, train_batch) == Spent(2 * FORWARD + FULL, 2, 2, 1)


# -- the counter -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("bf16", [False, True])
def test_it_counts_what_pytorch_s_own_counter_counts(inference, bf16):
    network, images = Session("pgd").network, next(random_minibatches())[0]
    counted = []
    for counter in (FlopCounter(), FlopCounterMode(display=False)):
        with counter, inference(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
            loss = network(images).float().logsumexp(1).sum()
            if loss.requires_grad:
                torch.autograd.grad(loss, list(network.parameters()))
        counted.append(counter.flops if isinstance(counter, FlopCounter) else counter.get_total_flops())
    assert counted[0] == counted[1] == BATCH * (FULL if inference is torch.enable_grad else FORWARD)


def test_it_changes_no_number():
    results = []
    for counting in (False, True):
        session = Session("free")
        for images, labels in random_minibatches():
            if counting:
                with FlopCounter():
                    session.train(images, labels, Effort(2, 0.05))
            else:
                session.train(images, labels, Effort(2, 0.05))
        results.append(session.network.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_what_is_held_is_not_counted():
    session, (images, _) = Session("pgd"), next(random_minibatches())
    with session.learner.spent.held():
        session.network(images)
    assert session.learner.spent == Spent()
    session.network(images)
    assert session.learner.spent.forwards == BATCH


def test_a_copy_of_a_counted_network_is_not_counted_nor_kept():
    session, (images, _) = Session("pgd"), next(random_minibatches())
    spent, other = Spent(), copy.deepcopy(session.network)
    other(images)
    assert session.learner.spent == Spent()
    count_passes(other, spent)
    other(images)
    assert spent.forwards == BATCH
    assert session.learner.spent == Spent()
