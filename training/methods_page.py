"""Write docs/methods.md, the table of all methods and what is to be known of each.

python -m training.methods_page
"""

import argparse
import copy

import torch

import methods
from experiment import method_facts, models, plugins
from experiment.effort import Effort
from experiment.files import write_atomically
from experiment.plugins import ROOT
from methods import Batch, Position, Split
from methods.about import of, written
from methods.batch import PADDING
from training.averaging import WeightAverage
from training.counts import FlopCounter, ordinary_flops
from training.learner import Learner

PAGE = ROOT / "docs" / "methods.md"
SHAPE, MEAN, STD = (3, 32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
WHERE = torch.device("meta")  # of tensors that have shapes and no values: operations are counted and take no time
IMAGES, EPS, EPOCHS, MINIBATCHES = 8, 8 / 255, 100, 100


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.methods_page", description=__doc__.partition("\n")[0])
    parser.parse_args(arguments)
    write_atomically(PAGE, page().encode())
    print(f"Written: {PAGE.relative_to(ROOT)}")


def page() -> str:
    """docs/methods.md."""
    rows = sorted(methods.names(), key=lambda method: (of(method).year, of(method).name.lower()))
    return "\n".join([HEAD, TABLE, *map(_row, rows), "", *(line for method in rows for line in _section(method))])


HEAD = """\
# The methods

Made by `python -m training.methods_page` from each method's about.yaml, defaults.yaml and class; the README of each has
its algorithm, the sources of its defaults, deviations and published numbers.

- **passes**: forwards / backwards of a minibatch's images, n = `steps`; what the literature counts.
- **compute**: what one such minibatch takes at the default steps, in ordinary ones (a forward and a full backward of
  every image), counted on PreActResNet-18 as it is executed ([cost.md](cost.md)).
- **\\***: something is executed beside these passes; the method's paragraph below says what.
- **M+**: whose definition the suite follows. `published` is by the authors of M+ (TrustAI/DEAT).
- **how exact**: A, the authors' code was read in full; B, it contradicts itself, its paper or a copy of it, and a
  choice had to settle that; C, another's code or only a part of it was to be had.
"""
TABLE = """\
| method | year | default steps | passes | compute | M+ | smoothed labels | perturbed weights | how exact |
|---|---|---|---|---|---|---|---|---|"""


def _row(method: str) -> str:
    about, facts = of(method), method_facts.of(method)
    passes = f"{written(about.passes.forwards)} / {written(about.passes.backwards)}"
    cells = (
        f"[{about.name}](../methods/{method}/README.md)",
        str(about.year),
        str(facts.steps["constant"]["steps"]),
        passes + (" *" if about.passes.beside else ""),
        f"{compute(method):.2f}",
        about.mplus,
        "yes" if facts.smooths_labels else "no",
        "yes" if facts.perturbs_weights else "no",
        about.confidence,
    )
    return f"| {' | '.join(cells)} |"


def _section(method: str) -> list[str]:
    about, facts = of(method), method_facts.of(method)
    options = ", ".join(f"`{key}` ({value})" for key, value in facts.options.items()) or "none"
    lines = [
        f"## {about.name} (`{method}`)",
        "",
        f"{about.summary} [Paper]({about.paper}); code: {about.code}.",
        "",
        f"- **Options:** {options}.",
        f"- **Steps rules:** {', '.join(facts.rules)}; norms: {', '.join(facts.norms)}; batch norm in crafting, by its "
        f"authors: {facts.published_batch_norm}.",
        f"- **Deviations:** {about.deviations}",
        f"- **Held against:** {about.compared}.",
    ]
    if about.passes.beside:
        lines.append(f"- **Beside its passes:** {about.passes.beside}.")
    return [*lines, ""]


def compute(method: str) -> float:
    """What a minibatch takes at the default steps, in ordinary minibatches, on PreActResNet-18 and 32x32 pixels."""
    network = models.build("preact_resnet18", classes=10, shape=SHAPE, mean=MEAN, std=STD, seed=0).to(WHERE)
    facts, threat = method_facts.of(method), plugins.of_spec("threat", {"norm": "linf", "eps": EPS})
    learner = Learner(network.train(), torch.optim.SGD(network.parameters(), lr=0.0))
    trained = methods.load(method)(threat, **facts.options)
    learner.average = WeightAverage(network) if trained.averages_weights else None
    if facts.needs_teacher:
        trained.teacher = copy.deepcopy(network).eval().requires_grad_(False)
    trained.extra = trained.modules(network)
    trained.begin(Split(IMAGES, SHAPE, 10, WHERE))
    images, labels = torch.rand(IMAGES, *SHAPE, device=WHERE), torch.arange(IMAGES, device=WHERE)
    position = Position(0, EPOCHS, 1, MINIBATCHES)  # no minibatch in which anything begins
    scalars = {name: torch.tensor(value, device=WHERE) for name, value in trained.schedule(position).items()}
    index = torch.arange(IMAGES, device=WHERE)
    where = index.new_full((2, IMAGES), PADDING)
    batch = Batch(images, labels, index, where, torch.zeros(IMAGES, dtype=torch.bool, device=WHERE), scalars)
    effort = Effort(facts.steps["constant"]["steps"], EPS / 4)
    for _ in range(2):  # state is made in the first
        learner.begin_batch(labels, lambda update: 0.0)
        with FlopCounter() as counter:
            trained.train_batch(learner, batch, effort)
    return counter.flops / ordinary_flops(network, images)


if __name__ == "__main__":
    main()
