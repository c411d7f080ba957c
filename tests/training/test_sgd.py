"""The optimizer against PyTorch's own."""

import os
import subprocess
import sys

import pytest
import tiny
import torch
import yaml
from torch import nn

from experiment.suite import ROOT
from training.sgd import SGD

SHAPES = ((7, 3, 3, 3), (7,), (5, 40))


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


def test_a_gradient_in_another_memory_layout_than_its_weight_gives_the_same_update():
    """PyTorch's fused kernel takes it as it lies and updates the wrong weights."""
    mine, theirs = weights(), weights()
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    own, reference = SGD(mine, **options), torch.optim.SGD(theirs, **options)
    for seed in range(2):
        draw = torch.Generator().manual_seed(seed)
        for one, other in zip(mine, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)  # contiguous, whatever the weight is
            other.grad = one.grad.clone()
        own.step(), reference.step()
    assert mine[0].stride() != mine[0].grad.stride()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_weight_without_a_gradient_stays_as_it_is():
    (moved, still, _) = parameters = weights()
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    moved.grad = torch.ones_like(moved)
    optimizer.step()
    assert torch.equal(still, before[1])
    assert not torch.equal(moved, before[0])
    optimizer.zero_grad()
    assert moved.grad is None


def test_a_loaded_state_goes_on_as_the_one_that_was_saved():
    first, second = weights(), weights()
    one, other = (SGD(each, lr=0.1, momentum=0.9, weight_decay=5e-4) for each in (first, second))
    step(one, first, 0, 0.1)
    other.load_state_dict(one.state_dict())
    for mine, theirs in zip(second, first, strict=True):
        mine.data.copy_(theirs)
    for optimizer, parameters in ((one, first), (other, second)):
        step(optimizer, parameters, 1, 0.1)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


def test_a_training_job_does_not_wait_for_pytorch_s_compiler_to_be_imported(tmp_path):
    data = tiny.prepared_digits(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny.content(data, training={"epochs": 2})))
    code = "import sys; from training.run import main; main(sys.argv[1:]); print('torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "tiny.yaml"), "digits/it/seed0", "--results", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr
