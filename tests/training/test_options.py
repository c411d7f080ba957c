"""Options of the protocol that compose with methods: label smoothing, weight perturbation, weight averaging."""

import copy
import re

import pytest
import test_cuda_graphs as recording
import tiny
import torch
import torch.nn.functional as F
from rehearsal import Recorder
from session import Session, random_minibatches

import methods
from experiment import method_facts
from experiment.effort import Effort
from experiment.errors import UserError
from methods.losses import relaxed_cross_entropy
from training import trainer
from training.averaging import WeightAverage
from training.compression import compressed
from training.validation import Accuracies

EFFORT = Effort(2, 0.05)
EVERY = ("gradient_bits", "label_smoothing", "weight_perturbation", "weight_averaging")
ALL = {"gradient_bits": 5, "label_smoothing": 0.2, "weight_perturbation": 0.05, "weight_averaging": {"decay": 0.9}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


def session_of(method="pgd", **options):
    session = Session(method)
    session.network.double()
    session.method.label_smoothing = options.get("label_smoothing", 0)
    session.learner._weight_perturbation = options.get("weight_perturbation", 0)
    return session


def minibatch():
    images, labels = next(random_minibatches())
    return images.double(), labels


# -- label smoothing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("smoothing", "true"), [(0.4, 0.64), (0.2, 0.82), (0.0, 1.0)])
def test_a_weight_on_the_label_and_label_smoothing_are_two_ways_to_write_a_target(smoothing, true):
    """1 - s (C - 1) / C, with C = 10 classes."""
    logits, labels = torch.randn(6, 10, dtype=torch.float64), torch.arange(6)
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(relaxed_cross_entropy(logits, labels, true), expected)
    each = relaxed_cross_entropy(logits, labels, torch.full((6,), true, dtype=torch.float64))
    torch.testing.assert_close(each, expected)


def test_label_smoothing_is_in_crafting_as_in_the_update():
    """Of every target a share that all classes divide, in a naive form."""
    session, (images, labels) = session_of(label_smoothing=0.3), minibatch()
    network = copy.deepcopy(session.network)
    target = torch.full((len(labels), 10), 0.03, dtype=torch.float64)
    target[range(len(labels)), labels] += 0.7
    session.threat.generator.manual_seed(0), session.train(images, labels, EFFORT)
    session.threat.generator.manual_seed(0)
    delta = session.threat.random_start(images)
    for _ in range(EFFORT.steps):
        shown = (images + delta).detach().requires_grad_()
        loss = -(target * network(shown).log_softmax(1)).sum(1).mean()
        (gradient,) = torch.autograd.grad(loss, shown)
        delta = session.threat.ascend(images, delta, gradient, EFFORT.step_size)
    logits = network(images + delta)
    loss = -(target * logits.log_softmax(1)).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    for weight, own, gradient in zip(network.parameters(), session.network.parameters(), gradients, strict=True):
        torch.testing.assert_close(own, weight - 0.01 * (gradient + 5e-4 * weight), rtol=0, atol=1e-12)


# -- adversarial weight perturbation -----------------------------------------------------------------------------------


def test_weights_are_perturbed_as_the_authors_do_with_a_proxy():
    """Wu et al., 2020: a proxy makes a step of ascent; its difference, scaled by layer, is added and taken back."""
    gamma, proxy_rate = 0.05, 0.01
    session, (images, labels) = session_of(weight_perturbation=gamma), minibatch()
    network, shown = copy.deepcopy(session.network), []
    session.network.first_layer.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].detach()))
    session.train(images, labels, EFFORT)
    assert torch.equal(shown[-1], shown[-2])
    for images_of_step in shown[: EFFORT.steps]:
        network(images_of_step)  # batch norm's running statistics
    proxy = copy.deepcopy(network)
    ascent = torch.optim.SGD(proxy.parameters(), lr=proxy_rate)
    (-F.cross_entropy(proxy(shown[-1]), labels)).backward()
    ascent.step()
    moved = {}
    for name, weight in network.named_parameters():
        if weight.dim() > 1:
            step = proxy.get_parameter(name).detach() - weight.detach()
            moved[name] = gamma * weight.detach().norm() / step.norm() * step
            weight.data += moved[name]
    F.cross_entropy(network(shown[-1]), labels).backward()
    torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4).step()
    for name, step in moved.items():
        network.get_parameter(name).data -= step
    for name, value in session.network.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name], rtol=0, atol=1e-12, msg=name)


def test_weights_that_are_not_perturbed_are_the_host_s():
    (one, two), (images, labels) = (session_of(), session_of(weight_perturbation=1e-12)), minibatch()
    for session in (one, two):
        session.train(images, labels, EFFORT)
    for expected, value in zip(one.network.parameters(), two.network.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)


def test_a_perturbation_costs_the_update_once_more():
    spent = []
    for gamma in (0, 0.05):
        session, (images, labels) = session_of(weight_perturbation=gamma), minibatch()
        session.train(images, labels, EFFORT)
        spent.append(session.learner.spent)
    assert spent[1].forwards - spent[0].forwards == spent[1].backwards - spent[0].backwards == len(labels)
    assert spent[0].updates == spent[1].updates == 1


# -- weight averaging --------------------------------------------------------------------------------------------------


def test_the_average_is_the_recursion_of_all_weights_so_far():
    session, kept = session_of(), None
    average = WeightAverage(session.network, decay=0.6)
    for update, (images, labels) in enumerate(random_minibatches()):
        session.train(images.double(), labels, EFFORT)
        average.update()
        decay = min(0.6, (update + 1) / (update + 10))
        now = {name: tensor.clone() for name, tensor in session.network.state_dict().items()}
        before = kept or {name: tensor.clone() for name, tensor in Session("pgd").network.double().state_dict().items()}
        kept = {
            name: decay * before[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor
            for name, tensor in now.items()
        }
    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=1e-7, atol=1e-7)


def test_an_average_that_keeps_nothing_is_the_network():
    session = session_of()
    average = WeightAverage(session.network, decay=0)
    for images, labels in random_minibatches():
        session.train(images.double(), labels, EFFORT)
        average.update()
        for name, value in average.network.state_dict().items():
            assert torch.equal(value, session.network.state_dict()[name])


def test_what_is_evaluated_is_the_average_and_a_collapse_is_seen_on_the_trained_network(data, tmp_path, monkeypatch):
    seen = []

    def validated(network, *arguments):
        """The trained network loses its robustness in epoch 1; its average does not."""
        averaged = network is run.learner.average.network
        seen.append(averaged)
        return Accuracies(0.9, 0.8, 0.6 if averaged else [0.5, 0.1, 0.1][run._epoch])

    run, _ = recording.made(data, tmp_path, recording.step_by_step, weight_averaging={"decay": 0.9})
    monkeypatch.setattr(trainer, "validate", validated)
    run.train()
    assert (run.status, run.status_epoch) == ("collapsed", 1)
    assert "fell to 10.0% from 50.0%" in run.status_reason
    assert run.best["pgd_accuracy"] == 0.6
    assert [row["validation_pgd_accuracy"] for row in run.rows] == [0.6] * 3
    assert [row["trained_pgd_accuracy"] for row in run.rows] == [0.5, 0.1, 0.1]
    assert seen == [True, False] * 3
    epoch, weights = run.weights
    trained = run.learner.network.state_dict()
    assert epoch == 0
    assert not all(torch.equal(value, trained[name]) for name, value in weights.items())


def test_the_last_checkpoint_is_the_average_too(data, tmp_path):
    run, _ = recording.finished(
        data, tmp_path, recording.step_by_step, checkpoint="last", weight_averaging={"decay": 0.9}
    )
    for name, value in run.weights[1].items():
        assert torch.equal(value, run.learner.average.network.state_dict()[name])


# -- compressed gradients ---------------------------------------------------------------------------------------------


def test_a_compressed_gradient_has_few_levels_and_the_gradient_for_its_expectation():
    gradient = torch.tensor([[0.3, -0.2, 0.0, 1.0]], dtype=torch.float64)
    generator, levels = torch.Generator().manual_seed(0), 3
    draws = torch.stack([compressed(gradient, 2, generator) for _ in range(20_000)])
    shares = draws / gradient.norm() * levels
    assert torch.equal(shares.round(), shares.round().clamp(-levels, levels))
    torch.testing.assert_close(shares, shares.round())
    torch.testing.assert_close(draws.mean(0), gradient, rtol=0, atol=0.01)
    assert torch.equal(draws[0].sign() * gradient.sign() >= 0, torch.ones(1, 4).bool())


def test_many_bits_are_the_gradient_to_rounding_and_no_gradient_stays_none():
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(50, generator=generator)
    torch.testing.assert_close(compressed(gradient, 23, generator), gradient, rtol=0, atol=1e-5)
    assert torch.equal(compressed(torch.zeros(5), 7, generator), torch.zeros(5))


# -- all of them -------------------------------------------------------------------------------------------------------


def test_options_change_what_is_trained_and_are_recorded_with_the_bits_of_step_by_step(data, tmp_path):
    plain, _ = recording.finished(data, tmp_path / "plain", recording.step_by_step)
    eager, _ = recording.finished(data, tmp_path / "eager", recording.step_by_step, **ALL)
    recorded, log = recording.finished(data, tmp_path / "recorded", Recorder, **ALL)
    assert recording.left(recorded) == recording.left(eager)
    assert not [line for line in log if "step by step" in line]
    for name, value in plain.learner.network.named_parameters():
        assert not torch.equal(value, eager.learner.network.get_parameter(name))


def test_a_killed_run_with_options_ends_with_the_same_bits(data, tmp_path, monkeypatch):
    expected, _ = recording.finished(data, tmp_path / "whole", Recorder, **ALL)
    resumed = recording.killed(data, tmp_path / "killed", monkeypatch, **ALL)
    assert recording.left(resumed) == recording.left(expected)


@pytest.mark.slow
@pytest.mark.parametrize("option", EVERY)
@pytest.mark.parametrize("method", methods.names())
def test_an_option_changes_a_method_s_training_or_is_refused_in_a_sentence(data, tmp_path, method, option):
    facts = method_facts.of(method)
    allowed = {
        "gradient_bits": True,
        "label_smoothing": facts.smooths_labels,
        "weight_perturbation": facts.perturbs_weights,
        "weight_averaging": not facts.averages_weights,
    }[option]
    arguments = {option: ALL[option], "epochs": 1}
    if not allowed:
        with pytest.raises(UserError, match=rf"variant it: .*{re.escape(method)}.*{option} must be|{option} is not"):
            recording.made(data, tmp_path / "with", recording.step_by_step, method, **arguments)
        return
    with_it, _ = recording.finished(data, tmp_path / "with", recording.step_by_step, method, **arguments)
    without, _ = recording.finished(data, tmp_path / "without", recording.step_by_step, method, epochs=1)
    one, other = with_it.weights[1], without.weights[1]
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_batch_norm_s_published_mode_is_the_method_s(data):
    suite = tiny.suite(data, "pgd", training={"crafting_batch_norm": "published"})
    assert next(suite.runs()).spec["training"]["crafting_batch_norm"] == "train"
    assert suite.resolved["training"]["crafting_batch_norm"] == "published"
