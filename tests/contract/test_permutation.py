"""The order of a minibatch's images means nothing: each takes its noise, its label and what is kept for it with it."""

from dataclasses import replace

import pytest
import torch
from session import BATCH, MINIBATCHES, Session, every_method, random_minibatches
from torch.overrides import TorchFunctionMode

from experiment.effort import Effort

ORDERS = [[2, 0, 3, 1], [3, 2, 1, 0]]
USUAL = list(range(BATCH))


class Permuted(TorchFunctionMode):
    """Random numbers for a minibatch, (BATCH, ...), come in the order of its images."""

    DRAWS = ("rand", "randn", "rand_like", "randn_like", "uniform_", "normal_", "bernoulli_", "random_")

    def __init__(self, order):
        super().__init__()
        self._order = order

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.__name__ in self.DRAWS and result.dim() > 0 and len(result) == BATCH:
            result.copy_(result[self._order].clone())
        return result


def trained(method, order):
    """The network after two epochs whose minibatches come in that order, in float64."""
    session = Session(method)
    session.network.double()
    if session.method.needs_teacher:
        session.method.teacher.double()
    if session.method.averages_weights:
        session.learner.average.network.double()
    steps = session.rule.effort_for(0).steps
    minibatches = [*random_minibatches(), *random_minibatches()]
    with Permuted(order):
        for minibatch, (images, labels) in enumerate(minibatches):
            batch = session.batch(images.double()[order], labels[order])
            rows = torch.arange(BATCH)[order] + minibatch % MINIBATCHES * BATCH
            session.train_on(replace(batch, index=rows), Effort(steps, 0.05))
    return session.network.state_dict()


@every_method
def test_the_order_of_a_minibatch_means_nothing(method, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        usual = trained(method, USUAL)
        for order in ORDERS:
            for name, value in trained(method, order).items():
                torch.testing.assert_close(value, usual[name], rtol=0, atol=1e-9, msg=f"{name}, in the order {order}")
    finally:
        torch.set_default_dtype(before)


def test_a_method_that_mixes_its_images_up_would_be_noticed(monkeypatch):
    """Here one that gives the first image's perturbation to all."""

    def perturbation(self, learner, batch, effort):
        return self.threat.box(batch.images, self.threat.noise(batch.images)[:1])

    monkeypatch.setattr("methods.pgd.method.PGD.perturbation", perturbation)
    with pytest.raises(AssertionError, match="in the order"):
        test_the_order_of_a_minibatch_means_nothing("pgd", monkeypatch)
