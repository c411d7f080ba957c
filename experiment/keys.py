"""The parts of a suite: what each key may say, with its meaning and its default."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, create_model, model_validator

from experiment import method_facts, plugins
from experiment.errors import UserError, shown
from experiment.fields import Cap, Count, Keys, Length, Name, Positive, Quantity
from experiment.plugins import Plugged


class WeightAveraging(Keys):
    """The network that is evaluated is an exponential moving average of the one that is trained."""

    decay: Annotated[
        Quantity, Field(ge=0, lt=1, description="Share of the average that each minibatch keeps; the rest is new.")
    ] = 0.9995
    warm_up: Annotated[
        bool,
        Field(description="Keep (t + 1) / (t + 10) at most, t the minibatches so far, so that initial weights fade."),
    ] = True


class Training(Keys):
    """The protocol, the same for every variant unless the variant overrides a key."""

    epochs: Annotated[Count, Field(description="Sweeps over the training split (a replay is not a new sweep).")]
    batch_size: Annotated[
        int,
        Field(ge=2, description="Images a minibatch; the last one of an epoch may be smaller."),
    ]
    lr: Annotated[Positive, Field(description="Highest learning rate.")]
    optimizer: Annotated[Keys, Plugged("optimizer", "sgd"), Field(description="What makes updates of gradients.")] = (
        Field(default={}, validate_default=True)
    )
    schedule: Annotated[
        Keys, Plugged("schedule", "multistep"), Field(description="How the learning rate changes over the run.")
    ] = Field(default={}, validate_default=True)
    crafting_batch_norm: Annotated[
        Literal["train", "eval", "published"],
        Field(
            description="Mode of batch norm in passes that only look for a perturbation; published is what each "
            "method's authors have."
        ),
    ] = "train"
    label_smoothing: Annotated[
        Quantity,
        Field(
            ge=0,
            lt=1,
            description="Share of a training target that all classes divide, in crafting as in the update; never in an "
            "evaluation.",
        ),
    ] = 0
    weight_perturbation: Annotated[
        Quantity,
        Field(
            ge=0,
            lt=1,
            description="Adversarial weight perturbation: how far weights are moved up the loss before each update, in "
            "shares of their norm (Wu et al., 2020: 0.01, or 0.005 under TRADES).",
        ),
    ] = 0
    gradient_bits: Annotated[
        Annotated[int, Field(ge=1, le=23)] | None,
        Field(
            description="Bits in which each entry of a gradient is rounded before the optimizer sees it, beside its "
            "sign and the tensor's norm, as processes would exchange it (DAT: 7); null for the gradient itself."
        ),
    ] = None
    weight_averaging: Annotated[
        WeightAveraging | None,
        Field(
            description="Evaluate an average of the weights, taken once a minibatch; null for the weights themselves. "
            "The checkpoint is chosen on the average, a collapse is seen on the trained network."
        ),
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "tf32", "bf16"],
        Field(
            description="Arithmetic of training passes. auto is bf16 on a GPU or CPU that computes in it and fp32 "
            "elsewhere, so that results depend on the machine; small_cnn is faster in fp32 on a CPU. tf32 is fp32 on a "
            "CPU."
        ),
    ] = "fp32"
    checkpoint: Annotated[
        Literal["best", "last"],
        Field(
            description="Which checkpoint is evaluated: best PGD accuracy on the validation split (earliest of equals; "
            "the last where none is above guessing), or the last."
        ),
    ] = "best"
    validation_images: Annotated[Count, Field(description="Held out of the training images.")] = 1000
    validation_steps: Annotated[Count, Field(description="Steps of eps/4 of the validation PGD.")] = 10
    max_train_images: Annotated[
        Cap, Field(description="Only so many training images after the split; null for all.")
    ] = None

    @model_validator(mode="after")
    def _momentum_goes_down(self) -> "Training":
        lowest = getattr(self.schedule, "peak_momentum", None)
        highest = getattr(self.optimizer, "momentum", None)
        if lowest is not None and (highest is None or not 0 <= lowest < highest):
            allowed = f"below momentum, {highest:g}" if highest else "null: the optimizer has no momentum"
            raise ValueError(f"has schedule.peak_momentum {lowest:g}; it must not be negative, and must be {allowed}")
        return self


class Attack(Keys):
    """What every attack has; its own keys are its file's (evaluation/attacks/)."""

    name: Annotated[str, Field(description="The attack: a file of evaluation/attacks/, with its steps as in pgd-20.")]
    label: Annotated[Name, Field(description="The name in tables and files; the attack's unless said.")]
    images: Annotated[Cap, Field(description="Only the first so many test images; null for all.")] = None
    eps: Annotated[Length | None, Field(description="Radius of its own ball; null for the suite's.")] = None

    @model_validator(mode="before")
    @classmethod
    def _labelled(cls, value: Any) -> Any:
        return {"label": value.get("name"), **value} if isinstance(value, dict) else value


@cache
def attack_keys(plugin: str) -> type[Attack]:
    """The keys of the attacks of one file of evaluation/attacks/."""
    carried = plugins.load("attack", plugin).name_carries
    own = plugins.parameters("attack", plugin)
    fields: dict[str, Any] = {
        name: (field.annotation, field) for name, field in own.model_fields.items() if name not in ("name", carried)
    }
    return create_model(f"attack:{plugin}", __base__=Attack, __doc__=own.__doc__, **fields)


def _keys_of(name: object) -> type[Attack]:
    """The keys of the attack of that name. Raises ValueError."""
    plugin, hyphen, number = name.partition("-") if isinstance(name, str) else ("", "", "")
    known = {plugin: plugins.load("attack", plugin).name_carries for plugin in plugins.names("attack")}
    if plugin not in known or bool(hyphen) != bool(known[plugin]):
        shown_names = ", ".join(f"{name}-K" if carries else name for name, carries in known.items())
        raise ValueError(f"is {shown(name)}; the attacks are {shown_names}")
    if hyphen and not re.fullmatch("[1-9][0-9]{0,4}", number):
        said = f"K of {plugin}-K is its {known[plugin]}: a whole number from 1 to 99999, without leading zero"
        raise ValueError(f"is {shown(name)}; {said}")
    return attack_keys(plugin)


NOT_IN_SETTINGS = {"label", "eps"}  # of what defines an attack: it is called so, and its threat model has its radius


def attack_of(value: Any, context: Mapping[str, Any]) -> Attack:
    """The keys of one entry of `attacks`, a name or a mapping with one; lengths are in units of its own ball."""
    entry = {"name": value} if isinstance(value, str) else value
    if isinstance(entry, Attack):
        return entry
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ValueError(f"is {shown(entry)}; it must be an attack's name, or a mapping with a name")
    model = _keys_of(entry["name"])
    context = dict(context)
    if entry.get("eps") is not None:
        context["eps"] = model.model_validate({"name": entry["name"], "eps": entry["eps"]}, context=context).eps
    return model.model_validate(dict(entry), context=context)


def _attack(value: Any, info: ValidationInfo) -> Attack:
    return attack_of(value, info.context or {})


class Evaluation(Keys):
    """How every evaluated checkpoint is attacked."""

    max_test_images: Annotated[Cap, Field(description="Only the first so many test images; null for all.")] = None
    attacks: Annotated[
        list[Annotated[Attack, BeforeValidator(_attack)]],
        Field(min_length=1, description="Attacks on every evaluated checkpoint, in the order of the tables' columns."),
    ]
    equivalence_margin: Annotated[
        float,
        Field(
            gt=0,
            le=100,
            description="Points of accuracy by which two variants may differ and still be called equivalent, in the "
            "table of effects. It changes no record; what was trained and attacked stays.",
        ),
    ] = 1


def _facts_of(method: str) -> method_facts.Facts:
    try:
        return method_facts.of(method)
    except UserError as error:
        raise ValueError(f": {error}") from None


class Variant(Keys):
    """What is compared: a method, a steps rule and what else differs from the suite's protocol."""

    label: Annotated[Name, Field(description="The name in tables and paths.")]
    method: Annotated[Name, Field(description="A folder of methods/.")]
    base: Annotated[
        str | None, Field(description="Label of the variant that this one is compared with in the table of effects.")
    ] = None
    teacher: Annotated[
        str | None,
        Field(
            description="Label of the variant whose checkpoint of the same data set and seed it learns from, for a "
            "method that needs one; what that cost is added to its own."
        ),
    ] = None
    steps: Annotated[
        Keys,
        Plugged("steps", "constant"),
        Field(description="The steps rule and its parameters; what is not said comes from the method's defaults.yaml."),
    ] = Field(default={}, validate_default=True)
    options: Annotated[dict[str, Any], Field(description="The method's own options, as in its defaults.yaml.")] = {}
    network: Annotated[
        dict[str, Any], Field(description="Keys of `network` that differ for this variant; captions name them.")
    ] = {}
    training: Annotated[
        dict[str, Any], Field(description="Keys of `training` that differ for this variant; captions name them.")
    ] = {}

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, value: Any) -> Any:
        """The variant with its method's parameters and options where it says nothing."""
        if not isinstance(value, Mapping) or not isinstance(value.get("method"), str):
            return value
        facts = _facts_of(value["method"])
        steps = value.get("steps", {})
        if isinstance(steps, Mapping):
            rule = steps.get("rule", "constant")
            if rule in plugins.names("steps") and rule not in facts.rules:
                known = " and ".join(facts.rules)
                raise ValueError(f"has the rule {rule}, which means nothing for {facts.method}; it has {known} alone")
            of_rule = facts.steps.get(rule, {}) if isinstance(rule, str) else {}
            value = {**value, "steps": {"rule": rule, **of_rule, **steps}}
        options = value.get("options", {})
        if isinstance(options, Mapping):
            value = {**value, "options": facts.checked(options)}
        return value

    @model_validator(mode="after")
    def _steps_that_the_method_takes(self) -> "Variant":
        facts = method_facts.of(self.method)
        rule = self.steps.rule  # type: ignore[attr-defined]
        first = getattr(self.steps, "first", getattr(self.steps, "steps", None))
        if first is None:
            raise ValueError(f"has the rule {rule}, which says no `first` or `steps` for epoch 0")
        if first < facts.least_steps:
            raise ValueError(f"has {first} steps in epoch 0, but {self.method} needs {facts.least_steps}")
        if facts.most_steps is not None and first > facts.most_steps:
            raise ValueError(f"has {first} steps, but {self.method} takes {facts.most_steps} at most")
        return self
