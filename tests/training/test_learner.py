"""The learner against plain PyTorch on a copy of the network."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiment import models
from training import adamw, sgd
from training.counts import Spent
from training.learner import Learner

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


def network():
    return models.build("small_cnn", classes=10, shape=(3, 8, 8), mean=MEAN, std=STD, seed=0).train()


def learner_of(net, **options):
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    learner = Learner(net, optimizer, **options)
    learner.begin_batch(LABELS, lambda update: 0.1 / (update + 1))
    return learner


GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(6, 3, 8, 8, generator=GENERATOR)
LABELS = torch.randint(0, 10, (6,), generator=GENERATOR)
DELTA = torch.empty_like(IMAGES).uniform_(-0.1, 0.1, generator=GENERATOR)


def delta():
    return DELTA.clone().requires_grad_()


def gradients(net):
    return {name: parameter.grad for name, parameter in net.named_parameters()}


def assert_equal_tensors(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_logits_are_the_network_s():
    net = network()
    expected = copy.deepcopy(net)(IMAGES)
    learner = learner_of(net)
    assert torch.equal(learner(IMAGES), expected)
    assert torch.equal(learner.craft(IMAGES), expected)
    assert torch.equal(learner.rest(learner.first_layer(IMAGES)), expected)


def test_the_input_gradient_is_that_of_a_backward_and_leaves_weights_without_one():
    net, at = network(), delta()
    learner, twin, twin_at = learner_of(net), copy.deepcopy(net), delta()
    gradient = learner.input_gradient(F.cross_entropy(learner.craft(IMAGES + at), LABELS), at)
    F.cross_entropy(twin(IMAGES + twin_at), LABELS).backward()
    assert torch.equal(gradient, twin_at.grad)
    assert set(gradients(net).values()) == {None}
    assert at.grad is None


def test_accumulate_is_a_backward_and_a_second_one_adds_to_it():
    net, at = network(), delta()
    learner, twin, twin_at = learner_of(net), copy.deepcopy(net), delta()
    for expected_gradients in range(1, 3):
        logits = learner(IMAGES + at)
        gradient = learner.accumulate(F.cross_entropy(logits, LABELS), logits, at)
        twin_at.grad = None
        F.cross_entropy(twin(IMAGES + twin_at), LABELS).backward()
        assert torch.equal(gradient, twin_at.grad)
        assert_equal_tensors(gradients(net), gradients(twin))
        assert learner.spent.backwards == expected_gradients * len(IMAGES)
    assert learner.spent.updates == 0


def test_accumulate_from_the_first_layer_s_output_adds_to_the_first_layer_alone():
    net = network()
    learner, twin = learner_of(net), copy.deepcopy(net)
    assert learner.accumulate(learner.first_layer(IMAGES).square().sum()) is None
    twin.first_layer(IMAGES).square().sum().backward()
    assert {name for name, gradient in gradients(net).items() if gradient is not None} == {"first_layer.1.weight"}
    assert torch.equal(net.first_layer[1].weight.grad, twin.first_layer[1].weight.grad)


def test_descend_updates_at_the_scheduled_rates_with_the_gradient_from_before_the_update():
    net, at = network(), delta()
    learner, twin, twin_at = learner_of(net), copy.deepcopy(net), delta()
    optimizer = torch.optim.SGD(twin.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    for rate in (0.1, 0.05):
        logits = learner(IMAGES + at)
        gradient = learner.descend(F.cross_entropy(logits, LABELS), logits, at)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        twin_at.grad = None
        F.cross_entropy(twin(IMAGES + twin_at), LABELS).backward()
        optimizer.step()
        assert torch.equal(gradient, twin_at.grad)
        assert learner.last_rate == rate
    assert_equal_tensors(net.state_dict(), twin.state_dict())
    assert set(gradients(net).values()) == {None}  # nothing is left to be added to by the next minibatch


def test_descend_gives_a_gradient_only_where_it_is_asked_for_one():
    learner = learner_of(network())
    logits = learner(IMAGES)
    assert learner.descend(F.cross_entropy(logits, LABELS), logits) is None


def test_an_update_may_scale_its_rate_and_a_new_minibatch_starts_anew():
    learner = learner_of(network())
    for scale, rate in ((0.25, 0.025), (1, 0.05)):
        logits = learner(IMAGES)
        learner.accumulate(F.cross_entropy(logits, LABELS), logits)
        learner.update(lr_scale=scale)
        assert learner.last_rate == pytest.approx(rate)
    learner.begin_batch(LABELS, lambda update: 0.3 - update)
    logits = learner(IMAGES)
    learner.descend(F.cross_entropy(logits, LABELS), logits)
    assert learner.last_rate == 0.3


def trained_once(net, optimizer):
    learner = Learner(net, optimizer)
    learner.begin_batch(LABELS, lambda update: 0.1)
    logits = learner(IMAGES)
    learner.descend(F.cross_entropy(logits, LABELS), logits)
    return learner


@pytest.mark.parametrize("trained_before", [True, False])
@pytest.mark.parametrize(
    "build",
    [
        lambda weights: torch.optim.SGD(weights, lr=1.0, momentum=0.9, weight_decay=5e-4),
        lambda weights: sgd.SGD(weights, lr=1.0, momentum=0.9, weight_decay=5e-4),
        lambda weights: adamw.AdamW(weights, lr=1.0, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.01),
    ],
)
def test_an_update_that_is_tried_says_what_one_would_change_and_changes_nothing(build, trained_before):
    net, at = network(), delta()
    learner = trained_once(net, build(net.parameters())) if trained_before else Learner(net, build(net.parameters()))
    twin = copy.deepcopy(net)
    other = Learner(twin, build(twin.parameters()))
    other.optimizer.load_state_dict(copy.deepcopy(learner.optimizer.state_dict()))
    for one in (learner, other):
        one.begin_batch(LABELS, lambda update: 0.1 / (update + 1))
    loss = F.cross_entropy(learner(IMAGES + at), LABELS)
    before, spent = copy.deepcopy(net.state_dict()), Spent(**learner.spent.as_dict())
    gradient, changes = learner.try_update(loss, at)
    assert_equal_tensors(net.state_dict(), before)
    assert set(gradients(net).values()) == {None}
    assert learner.spent.since(spent) == Spent(backwards=len(IMAGES))
    twin_at, old = delta(), [weight.detach().clone() for weight in twin.parameters()]
    logits = other(IMAGES + twin_at)
    assert torch.equal(gradient, other.descend(F.cross_entropy(logits, LABELS), logits, twin_at))
    for change, weight, was in zip(changes, twin.parameters(), old, strict=True):
        assert torch.equal(change, weight.detach() - was)
        assert change.any()
    logits = learner(IMAGES + at)
    learner.descend(F.cross_entropy(logits, LABELS), logits)  # goes on as if none had been tried
    assert learner.last_rate == 0.1
    for weight, expected in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(weight, expected)


def test_an_update_that_is_tried_is_measured_as_an_attack():
    net, at = network(), delta()
    expected = naive_magnitude(net, IMAGES + at)
    learner = learner_of(net, magnitude="attack")
    learner.try_update(F.cross_entropy(learner(IMAGES + at), LABELS), at)
    logits = learner(IMAGES)
    learner.descend(F.cross_entropy(logits, LABELS), logits)
    assert learner.batch_statistics()[2].item() == pytest.approx(expected, rel=1e-5)


def test_weights_are_moved_by_shares_of_their_norms():
    net = network()
    learner, before = learner_of(net), [weight.detach().clone() for weight in net.parameters()]
    direction = [torch.randn_like(weight) for weight in before]
    shares = [0.5 / (1 + n) if n % 3 else 0 for n in range(len(before))]
    learner.move([*direction[:-1], torch.zeros_like(before[-1])], shares)
    for weight, was, along, share in zip(list(net.parameters())[:-1], before, direction, shares, strict=False):
        torch.testing.assert_close(weight.detach(), was + share * was.norm() * along / along.norm())
        assert share or torch.equal(weight, was)
    assert torch.equal(list(net.parameters())[-1], before[-1])  # in no direction
    assert learner.spent.updates == 0


def test_passes_count_the_images_that_go_through_the_whole_network():
    learner, at = learner_of(network()), delta()
    hidden = learner.first_layer(IMAGES + at)
    logits = learner.rest(hidden)
    costate = learner.accumulate(F.cross_entropy(logits, LABELS), logits, hidden)
    for _ in range(3):
        learner.input_gradient((learner.first_layer(IMAGES + at) * costate).sum(), at)
    learner.accumulate((learner.first_layer(IMAGES + at) * costate).sum())
    learner.update()
    with torch.no_grad():
        learner.craft(IMAGES)
    assert learner.spent == Spent(forwards=2 * len(IMAGES), backwards=len(IMAGES), updates=1)


# -- batch norm while crafting ----------------------------------------------------------------------------------------


def batch_norms(net):
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def test_crafting_in_evaluation_mode_uses_running_statistics_and_leaves_them():
    net = network()
    net(IMAGES)
    learner, twin = learner_of(net, crafting_batch_norm="eval"), copy.deepcopy(net).eval()
    before = copy.deepcopy(net.state_dict())
    assert torch.equal(learner.craft(IMAGES), twin(IMAGES))
    assert_equal_tensors(net.state_dict(), before)
    assert all(layer.training for layer in batch_norms(net))
    assert torch.equal(learner(IMAGES), twin.train()(IMAGES))


def test_batch_norm_trains_again_after_a_crafting_pass_that_failed():
    net = network()
    with pytest.raises(RuntimeError):
        learner_of(net, crafting_batch_norm="eval").craft(IMAGES[:, :2])
    assert all(layer.training for layer in batch_norms(net))


def test_crafting_in_training_mode_updates_running_statistics():
    net = network()
    learner_of(net).craft(IMAGES)
    assert {layer.num_batches_tracked.item() for layer in batch_norms(net)} == {1}


# -- statistics and magnitude -----------------------------------------------------------------------------------------


def naive_magnitude(net, images):
    """Sum of |dL/dz|, z the normalised images, L the minibatch mean, in float64 with its own normalisation."""
    net = copy.deepcopy(net).double().train()
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    normalised = ((images.detach().double() - mean) / std).requires_grad_()
    logits = net.rest(net.first_layer[1](normalised))
    loss = -sum(F.log_softmax(row, 0)[label] for row, label in zip(logits, LABELS, strict=True)) / len(LABELS)
    loss.backward()
    return sum(abs(value) for value in normalised.grad.flatten().tolist())


def test_statistics_are_of_the_minibatch_s_last_pass():
    net = network()
    learner = learner_of(net)
    for _ in range(3):
        expected = copy.deepcopy(net)(IMAGES + DELTA)
        logits = learner(IMAGES + DELTA)
        learner.descend(F.cross_entropy(logits, LABELS), logits)
    loss, correct, magnitude = learner.batch_statistics().tolist()
    assert loss == pytest.approx(F.cross_entropy(expected, LABELS, reduction="sum").item(), rel=1e-6)
    assert correct == sum(int(row.argmax() == label) for row, label in zip(expected, LABELS, strict=True))
    assert magnitude == 0


def test_the_update_s_magnitude_is_of_the_gradient_that_updates_the_weights():
    net, at = network(), delta()
    learner = learner_of(net, magnitude="update")
    learner.input_gradient(F.cross_entropy(learner.craft(IMAGES + at), LABELS), at)
    for images in (IMAGES, (IMAGES + at).clamp(0, 1)):
        expected = naive_magnitude(net, images)
        logits = learner(images)
        learner.descend(F.cross_entropy(logits, LABELS), logits)
        assert learner.batch_statistics()[2].item() == pytest.approx(expected, rel=1e-5)


def test_the_attack_s_magnitude_is_of_the_last_gradient_that_moves_the_perturbation():
    net, at = network(), delta()
    learner = learner_of(net, magnitude="attack")
    expected = naive_magnitude(net, IMAGES + at)
    learner.input_gradient(F.cross_entropy(learner.craft(IMAGES), LABELS) * 0 + at.sum(), at)
    learner.input_gradient(F.cross_entropy(learner.craft(IMAGES + at), LABELS), at)
    learner.input_gradient(learner.first_layer(IMAGES + at).sum(), at)  # a partial pass is no attack on the loss
    logits = learner(IMAGES)
    learner.descend(F.cross_entropy(logits, LABELS), logits)
    assert learner.batch_statistics()[2].item() == pytest.approx(expected, rel=1e-5)


def test_an_update_that_also_moves_the_perturbation_is_measured_either_way():
    for source in ("attack", "update"):
        net, at = network(), delta()
        expected = naive_magnitude(net, IMAGES + at)
        learner = learner_of(net, magnitude=source)
        logits = learner(IMAGES + at)
        learner.descend(F.cross_entropy(logits, LABELS), logits, at)
        assert learner.batch_statistics()[2].item() == pytest.approx(expected, rel=1e-5)


def test_the_magnitude_of_a_minibatch_without_an_attack_is_0_whatever_the_one_before_had():
    net, at = network(), delta()
    learner = learner_of(net, magnitude="attack")
    learner.input_gradient(F.cross_entropy(learner.craft(IMAGES + at), LABELS), at)
    learner.begin_batch(LABELS, lambda update: 0.1)
    logits = learner(IMAGES)
    learner.descend(F.cross_entropy(logits, LABELS), logits)
    assert learner.batch_statistics()[2] == 0


def test_a_loss_that_is_not_finite_is_seen_in_the_statistics():
    net = network()
    net.classifier.weight.data.fill_(math.inf)
    learner = learner_of(net)
    logits = learner(IMAGES)
    learner.descend(F.cross_entropy(logits, LABELS), logits)
    assert not learner.batch_statistics()[0].isfinite()


# -- precision --------------------------------------------------------------------------------------------------------


def test_under_bf16_the_network_computes_in_bfloat16_and_all_that_is_kept_is_float32():
    net, seen = network(), []
    net.classifier.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    learner, at = learner_of(net, bf16=True, magnitude="update"), delta()
    logits = learner(IMAGES + at)
    assert seen == [torch.bfloat16]
    assert logits.dtype == torch.float32
    gradient = learner.accumulate(F.cross_entropy(logits, LABELS), logits, at)
    assert gradient.dtype == torch.float32
    assert {value.dtype for value in gradients(net).values()} == {torch.float32}
    exact = learner_of(network(), magnitude="update")
    exact_logits = exact(IMAGES + DELTA)
    torch.testing.assert_close(logits, exact_logits, rtol=0.05, atol=0.05)
    exact.accumulate(F.cross_entropy(exact_logits, LABELS), exact_logits)
    magnitude, exact_magnitude = (one.batch_statistics()[2].item() for one in (learner, exact))
    assert magnitude == pytest.approx(exact_magnitude, rel=0.05)
