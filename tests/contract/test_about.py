"""What every method's about.yaml says, against what the method does."""

import pytest
from session import BATCH, Session, every_method, random_minibatches
from test_costs import FIRST, FORWARD

from experiment.effort import Effort
from methods import about
from training import methods_page
from training.counts import FlopCounter, Spent


def at(coefficients, steps):
    return coefficients[0] + coefficients[1] * steps


@every_method
@pytest.mark.parametrize("more", [0, 2])
def test_it_makes_the_passes_that_it_says(method, more):
    """And operations to match: a pass is a forward and a backward as large, to the weights once more."""
    session, cost = Session(method), about.of(method).passes
    steps = session.rule.effort_for(0).steps + more
    if session.method.most_steps is not None:
        steps = min(steps, session.method.most_steps)
    images, labels = next(random_minibatches())
    session.train(images, labels, Effort(steps, 0.05))  # what is made in the first minibatch is there in the next
    batch = session.batch(images, labels)
    session.learner.begin_batch(labels, lambda update: 0.01)
    before = Spent(**session.learner.spent.as_dict())
    with FlopCounter() as counter:
        session.method.train_batch(session.learner, batch, Effort(steps, 0.05))
    spent = session.learner.spent.since(before)
    forwards, backwards, to_weights = (at(of, steps) for of in (cost.forwards, cost.backwards, cost.to_weights))
    assert (spent.forwards, spent.backwards) == (BATCH * forwards, BATCH * backwards)
    most = (forwards + backwards + to_weights) * FORWARD
    least = most - to_weights * FIRST  # where a backward to the weights leaves the images' gradient out
    assert BATCH * least <= counter.flops
    assert counter.flops <= BATCH * most or cost.beside, "what takes more than its passes say is named in passes.beside"


@pytest.mark.slow
def test_the_page_of_all_methods_is_as_the_methods_are():
    assert methods_page.PAGE.read_text() == methods_page.page(), "write it anew: python -m training.methods_page"


def test_passes_are_written_as_sums():
    assert [about.written(c) for c in ([3, 1], [0, 2], [2, 0], [0, 1], [0, 0])] == ["n + 3", "2n", "2", "n", "0"]
