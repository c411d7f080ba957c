"""Optimizers against PyTorch's own, or against the paper's formulas written plainly in float64."""

import copy
import os
import subprocess
import sys

import pytest
import tiny
import torch
import yaml
from torch import nn

from experiment import plugins
from experiment.suite import ROOT
from training.adamw import AdamW
from training.lamb import LAMB
from training.sgd import SGD

SHAPES = ((7, 3, 3, 3), (7,), (5, 40))


OPTIMIZERS = {
    "sgd": (SGD, {"momentum": 0.9, "weight_decay": 5e-4}),
    "adamw": (AdamW, {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}),
    "lamb": (LAMB, {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 1e-2}),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def built(name, parameters, lr=0.1):
    cls, options = OPTIMIZERS[name]
    return cls(parameters, lr=lr, **options)


def weights():
    draw = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.randn(shape, generator=draw)) for shape in SHAPES]
    made[0].data = made[0].data.contiguous(memory_format=torch.channels_last)
    return made


def step(optimizer, parameters, seed, lr):
    draw = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=draw))
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("rate", [float, torch.tensor])
def test_updates_are_those_of_pytorch_s_optimizer_to_the_bit(momentum, rate):
    mine, theirs = weights(), weights()
    options = {"lr": 1.0, "momentum": momentum, "weight_decay": 5e-4}
    own, reference = SGD(mine, **options), torch.optim.SGD(theirs, fused=True, **options)
    for seed, lr in enumerate((0.1, 0.1, 0.01)):
        step(own, mine, seed, rate(lr))
        step(reference, theirs, seed, rate(lr))
        assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


def test_a_momentum_that_changes_gives_the_updates_of_pytorch_s_optimizer():
    mine, theirs = weights(), weights()
    options = {"lr": 1.0, "momentum": 0.9, "weight_decay": 5e-4}
    own, reference = SGD(mine, **options), torch.optim.SGD(theirs, **options)
    for seed, (lr, momentum) in enumerate(((0.0, 0.9), (0.1, 0.85), (0.2, 0.8), (0.1, 0.85))):
        own.param_groups[0]["momentum"], reference.param_groups[0]["momentum"] = torch.tensor(momentum), momentum
        step(own, mine, seed, torch.tensor(lr))
        step(reference, theirs, seed, lr)
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rate", [float, torch.tensor])
def test_adamw_s_updates_are_those_of_pytorch_s_to_the_bit(rate):
    mine, theirs = weights(), weights()
    own, reference = built("adamw", mine), torch.optim.AdamW(theirs, fused=True, **OPTIMIZERS["adamw"][1])
    for seed, lr in enumerate((0.1, 0.1, 0.01)):
        step(own, mine, seed, rate(lr))
        step(reference, theirs, seed, rate(lr))
        assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("rate", [float, torch.tensor])
def test_lamb_s_updates_are_those_of_the_paper_s_formulas(rate):
    """Its means are not corrected, and phi(|w|) = min(|w|, 10), which the longest of these weights is cut by."""
    mine = [*weights(), nn.Parameter(torch.zeros(4))]  # a layer of zeros: the ratio of its norms is 1
    mine[2].data *= 10
    plain = [weight.detach().double() for weight in mine]
    means, squares = ([torch.zeros_like(weight) for weight in plain] for _ in range(2))
    assert plain[2].norm() > 10 > plain[1].norm() > 0 == plain[3].norm()
    own = built("lamb", mine)
    for seed, lr in enumerate((0.1, 0.2, 0.05)):
        step(own, mine, seed, rate(lr))
        for place, weight in enumerate(plain):
            gradient = mine[place].grad.double()
            means[place] = 0.9 * means[place] + 0.1 * gradient
            squares[place] = 0.999 * squares[place] + 0.001 * gradient**2
            update = means[place] / (squares[place].sqrt() + 1e-6) + 1e-2 * weight
            ratio = min(weight.norm().item(), 10) / update.norm().item() or 1
            plain[place] = weight - lr * ratio * update
        for weight, expected in zip(mine, plain, strict=True):
            torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-5, atol=1e-5)


@every_optimizer
def test_a_gradient_in_another_memory_layout_than_its_weight_gives_the_same_update(name):
    """PyTorch's fused kernels take it as it lies and update the wrong weights."""
    mine, theirs = weights(), weights()
    own, reference = built(name, mine), built(name, theirs)
    for seed in range(2):
        draw = torch.Generator().manual_seed(seed)
        for one, other in zip(mine, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)  # contiguous, whatever the weight is
            other.grad = torch.empty_like(other).copy_(one.grad)
        own.step(), reference.step()
    assert mine[0].stride() != mine[0].grad.stride()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@every_optimizer
def test_a_weight_without_a_gradient_stays_as_it_is(name):
    (moved, still, _) = parameters = weights()
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = built(name, parameters)
    moved.grad = torch.ones_like(moved)
    optimizer.step()
    assert torch.equal(still, before[1])
    assert not torch.equal(moved, before[0])
    optimizer.zero_grad()
    assert moved.grad is None


@every_optimizer
def test_a_loaded_state_goes_on_as_the_one_that_was_saved(name):
    first, second = weights(), weights()
    one, other = (built(name, each) for each in (first, second))
    step(one, first, 0, 0.1)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for mine, theirs in zip(second, first, strict=True):
        mine.data.copy_(theirs)
    for optimizer, parameters in ((one, first), (other, second)):
        step(optimizer, parameters, 1, 0.1)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


@pytest.mark.parametrize("name", plugins.names("optimizer"))
def test_all_state_is_there_from_the_start_and_changed_in_place(name):
    parameters = weights()
    optimizer = plugins.load("optimizer", name)().build(parameters, 0.1)
    before = {(weight, key): value for weight, state in optimizer.state.items() for key, value in state.items()}
    assert before
    for seed in range(2):
        step(optimizer, parameters, seed, 0.1)
    after = {(weight, key): value for weight, state in optimizer.state.items() for key, value in state.items()}
    assert after.keys() == before.keys()
    assert all(value is before[key] for key, value in after.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.names("optimizer"))
def test_a_training_job_does_not_wait_for_pytorch_s_compiler_to_be_imported(tmp_path, name):
    data = tiny.prepared_digits(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(
        yaml.safe_dump(tiny.content(data, training={"epochs": 2, "optimizer": {"name": name}}))
    )
    code = "import sys; from training.run import main; main(sys.argv[1:]); print('torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "tiny.yaml"), "digits/it/seed0", "--results", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr
