"""What every method's about.yaml, defaults.yaml and README say, against what the method does."""

import re
from dataclasses import MISSING, fields

import pytest
from session import BATCH, Session, each_rule_of_every_method, every_method, random_minibatches, resolved
from test_costs import FIRST, FORWARD

from experiment import method_facts, plugins
from experiment.effort import Effort
from experiment.suite import ROOT
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


@each_rule_of_every_method
def test_its_defaults_hold_every_parameter_of_every_steps_rule_that_has_no_default_of_its_own(method, rule):
    of_rule = fields(plugins.load("steps", rule))
    required = {field.name for field in of_rule if field.default is MISSING} - {"eps", "epochs"}
    parameters = set(method_facts.of(method).steps[rule])
    assert required <= parameters
    assert {"rule"} | parameters <= set(resolved(method, rule)["steps"])


SECTIONS = ["One minibatch", "Steps rules", "Options", "Deviations", "Pitfalls", "Published numbers"]


@every_method
def test_its_readme_has_the_sections_of_all_methods_in_their_order(method):
    headings = re.findall("^## (.+)$", (ROOT / "methods" / method / "README.md").read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == SECTIONS


@every_method
def test_its_readme_names_its_source_and_explains_its_defaults(method):
    text = (ROOT / "methods" / method / "README.md").read_text()
    assert about.of(method).paper in text
    places = (
        r"arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\d+|openreview\.net/forum\?id=\w+|openaccess\.thecvf\.com/content"
    )
    assert re.search(places, text)
    defaults = method_facts.of(method)
    for name in [*defaults.steps, *defaults.options]:
        assert re.search(rf"^[|-].*`{name}`", text, re.MULTILINE), f"no row of a table and no item of a list on {name}"
