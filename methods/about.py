"""What people read of each method beside its README: methods/<name>/about.yaml, of which docs/methods.md is made."""

from functools import cache
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from experiment import strict_yaml
from experiment.errors import UserError
from experiment.fields import Count, Keys, place, sentence
from experiment.plugins import ROOT

Passes = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]


class Cost(Keys):
    """Passes of a minibatch's images: of each kind how many whatever the steps, and how many more for each step."""

    forwards: Passes
    backwards: Passes
    to_weights: Annotated[Passes, Field(description="Those of the backwards that reach the weights.")]
    beside: Annotated[
        str | None, Field(description="What is executed and is no pass of the network, such as a teacher's forward.")
    ] = None


class About(Keys):
    """A method's about.yaml: what no number depends on."""

    name: Annotated[str, Field(description="As papers write it.")]
    year: Count
    paper: Annotated[
        str,
        Field(
            pattern=r"^https://(arxiv\.org/abs/\d{4}\.\d{4,5}|doi\.org/10\.\S+|openreview\.net/forum\?id=\S+|"
            r"openaccess\.thecvf\.com/content/\S+)$"
        ),
    ]
    summary: Annotated[str, Field(description="One sentence.")]
    code: Annotated[str, Field(description="The authors' code that it follows, as owner/name or owner/name@commit.")]
    confidence: Annotated[
        Literal["A", "B", "C"],
        Field(
            description="A: the authors' code, read in full; B: the authors' code, with a contradiction that a choice "
            "settles; C: another's code, or part of it."
        ),
    ]
    compared: Annotated[str, Field(description="What it was held against, and within what.")]
    passes: Cost
    mplus: Annotated[Literal["published", "this suite", "none"], Field(description="Who defined M+ for it.")]
    deviations: Annotated[
        str, Field(description="From the authors' code, in a sentence or two; the rest in README.md.")
    ]


@cache
def of(method: str) -> About:
    """What methods/<method>/about.yaml says. Raises UserError where it is missing or incomplete."""
    path = ROOT / "methods" / method / "about.yaml"
    try:
        return About.model_validate(strict_yaml.read(path))
    except ValidationError as error:
        raise UserError(
            f"methods/{method}/about.yaml: {sentence(error, lambda loc: place(loc) or 'the file')}"
        ) from None


def written(coefficients: list[int]) -> str:
    """Passes as a sum over n, the steps: [3, 1] is "n + 3"."""
    fixed, each = coefficients
    steps = "" if not each else "n" if each == 1 else f"{each}n"
    return f"{steps} + {fixed}" if steps and fixed else steps or str(fixed)
