"""What every attack may be relied upon for, whatever file it is in."""

import pytest
import torch
from torch import nn

from experiment import attacks, plugins

FEW = {"steps": 3, "queries": 20, "restarts": 1}  # of whatever parameters an attack has
LONG = ["autoattack"]  # whose length no parameter says
NAMES = plugins.names("attack")
every_attack = pytest.mark.parametrize("name", NAMES)
every_search = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in NAMES]
)
every_norm = pytest.mark.parametrize("norm", plugins.names("threat"))


def attack_of(name, norm, eps):
    """The attack with its defaults, but short; as a suite names it."""
    cls, threat = plugins.load("attack", name), {"norm": norm, "eps": eps}
    found = plugins.parameters("attack", name)
    few = {key: value for key, value in FEW.items() if key in found.model_fields}
    own = found.model_validate({"name": name, **few}, context={"eps": eps}).model_dump()
    own.pop(cls.name_carries or "", None)
    return attacks.of_settings({**own, "name": f"{name}-3" if cls.name_carries else name, "threat": threat})


@every_norm
@every_search
def test_what_it_claims_to_have_broken_lies_in_the_ball_and_the_box_and_is_misclassified(name, norm):
    """Also: the same seed finds the same, the images and the network are as they were, and no image is lost."""
    eps = {"linf": 0.05, "l2": 0.2}.get(norm, 0.1)
    its, count = attack_of(name, norm, eps), 3 if name in LONG else 12
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval().requires_grad_(False)
    network[1].weight.copy_(torch.randn(10, 64, generator=generator))
    images = torch.rand(count, 1, 8, 8, generator=generator)
    labels, kept = network(images).argmax(1), images.clone()
    labels[0] = (labels[0] + 1) % 10
    found = []
    for _ in range(2):
        threat = plugins.load("threat", norm)(eps, torch.Generator().manual_seed(5))
        made, flags = its.search(network, images, labels, threat, seed=5, batch_size=count)
        assert all(isinstance(flag, str) for flag in flags)
        found.append(made)
    one, again = found
    assert torch.equal(one.adversarial, again.adversarial)
    assert torch.equal(one.robust, again.robust)
    assert one.adversarial.shape == images.shape
    assert (one.robust.shape, one.robust.dtype) == ((count,), torch.bool)
    assert not one.robust[0]
    broken = ~one.robust
    assert threat.admits(images, one.adversarial)[broken].all()
    assert (network(one.adversarial).argmax(1) != labels)[broken].all()
    assert torch.equal(images, kept)
    assert {parameter.grad for parameter in network.parameters()} == {None}


@every_attack
def test_it_says_what_others_ask_of_it(name):
    its = attack_of(name, "linf", 0.1)
    assert its.display
    assert isinstance(its.paper, str)
    assert its.strength in range(4)
    assert its.reach > 0
    assert list(its.iterations) == ["steps", "step_size", "restarts"]
    assert not its.outdoes(its)


@every_attack
def test_each_of_its_parameters_has_a_description(name):
    properties = plugins.parameters("attack", name).model_json_schema()["properties"]
    assert all(says.get("description") for says in properties.values())
