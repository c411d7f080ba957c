"""Begin a method: write methods/<name>/ with one that trains as it stands and says where the paper's idea goes.

python -m methods.new mine            (`make method NAME=mine` does the same)
"""

import argparse
import re
from pathlib import Path
from string import Template

from experiment.errors import UserError, reported

METHOD = '''\
"""$name adversarial training."""

from torch import Tensor

from methods import Batch, Effort, Learner
from methods.two_stage import TwoStage


class $cls(TwoStage):
    """Authors, year: the paper's idea in a sentence. (So far: signed gradient steps from a random start.)"""

    def perturbation(self, learner: Learner, batch: Batch, effort: Effort) -> Tensor:
        # The paper's attack goes here; `self.gradient` is of the cross entropy, in a pass that only crafts.
        images = batch.images
        delta = self.threat.random_start(images)  # or where else the paper's search begins
        for _ in range(effort.steps):
            gradient = self.gradient(learner, batch, delta)
            delta = self.threat.ascend(images, delta, gradient, effort.step_size)
        return delta

    def loss(self, learner: Learner, batch: Batch, delta: Tensor) -> tuple[Tensor, Tensor]:
        # The paper's training loss goes here, with the logits of the attacked images.
        logits = learner(batch.images + delta)
        return self.cross_entropy(logits, batch.labels), logits
'''

DEFAULTS = """\
# Parameters by steps rule; sources in README.md.
steps:
  constant: {steps: 1, step_size: 1 eps}
  every: {first: 0, most: 2, d: 5, step_size: 0.5 eps}
  accuracy: {first: 0, most: 2, threshold: 0.4, step_size: 0.5 eps}
  amata: {first: 1, most: 3, total: 1 eps}
  mplus: {first: 0, most: 2, gamma: 1.01, step_size: 0.5 eps}
  mplus-2021: {first: 0, most: 2, gamma: 1.01, step_size: 0.5 eps, host: true}
"""

README = """\
# $name

What the method does and why, in a sentence or two. So far it is what `make method` wrote: one signed gradient step from
a random start, as in PGD, whose paper stands here until yours does.

> A. Madry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu. *Towards Deep Learning Models Resistant to Adversarial
> Attacks.* ICLR 2018. <https://arxiv.org/abs/1706.06083>

## One minibatch

```
d ~ U(-eps, eps), cut to the box                                       (box: x + d in [0, 1])
n times:   d <- box(clip(d + a sign(grad_d CE(f(x + d), y)), -eps, eps))
update the weights with grad_w CE(f(x + d), y)
```

n = `steps`, a = `step_size`. **Cost:** n + 1 passes, 1 update.

## Steps rules

`steps` is n, the attack steps before the update; 0 trains on the start itself.

| rule | defaults | source |
|---|---|---|
| `constant` | 1 step of 1 eps | this suite |
| `every` | 0 to 2, one more every 5 epochs, 0.5 eps | this suite |
| `accuracy` | 0 to 2, above 40 %, 0.5 eps | this suite |
| `amata` | 1 to 3, 1 eps in all | this suite |
| `mplus`, `mplus-2021` | 0 to 2, gamma 1.01, 0.5 eps | this suite |

## Options

None.

## Deviations

From the paper and its authors' code, all of them.

## Pitfalls

What a re-implementation gets wrong, and what a reader of the results should know.

## Published numbers

None known to us.
"""

ABOUT = """\
name: $name
year: 2018
paper: https://arxiv.org/abs/1706.06083
summary: So far signed gradient steps from a random start.
code: none yet
confidence: A
compared: nothing so far
# Of the images of a minibatch: [whatever the steps, for each step]; to_weights: backwards that reach the weights.
passes: {forwards: [1, 1], backwards: [1, 1], to_weights: [1, 0]}
mplus: this suite
deviations: None.
"""

FILES = {"method.py": METHOD, "defaults.yaml": DEFAULTS, "README.md": README, "about.yaml": ABOUT}


def write(name: str) -> Path:
    """Write the folder of the method `name` and return it. Raises UserError if it may not be named so, or is there."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"the name of a method is {name!r}; it must be a letter and then a-z, 0-9 and _ only")
    folder = Path(__file__).parent / name
    if folder.exists() or folder.with_suffix(".py").exists():
        raise UserError(f"methods/{name} is there already; choose another name, or remove it first")
    folder.mkdir()
    cls = "".join(part.capitalize() for part in name.split("_")) + "AT"  # a suffix, so that it hides no other name
    for file, text in FILES.items():
        (folder / file).write_text(Template(text).substitute(name=name, cls=cls))
    return folder


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m methods.new", description=__doc__.partition("\n")[0])
    parser.add_argument("name", metavar="NAME", help="a letter, then a-z, 0-9 and _")
    name = parser.parse_args(arguments).name
    with reported("new method"):
        write(name)
    print(f"methods/{name}/ trains as it stands; check it with `pytest tests/contract -k {name}`")
    print(f"and name it in a suite: - {{label: {name}, method: {name}}}")


if __name__ == "__main__":
    main()
