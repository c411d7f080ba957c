"""Whether a suite's parts, each right by itself, make sense together."""

from typing import TYPE_CHECKING, Any

from experiment import data, method_facts, models, plugins
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError
from experiment.keys import Training, Variant

if TYPE_CHECKING:
    from experiment.suite import Suite

RESERVED = ["reference"]  # folders of results/ that are no suite's


def check_together(suite: "Suite") -> None:
    """Raise UserError unless names are unique and known, and networks, norms and bases fit what they are used with."""
    if suite.name in RESERVED:
        raise UserError(f"suite is {suite.name!r}, as the folder of published results is; name it otherwise")
    _unique(suite.datasets, "datasets")
    _unique(suite.seeds, "seeds")
    _unique([variant.label for variant in suite.variants], "variants: label")
    _unique(suite.attacks, "evaluation.attacks: label")
    _unique([source.name for source in suite.data_sources], "data_sources")
    for source in suite.data_sources:
        if source.name not in suite.datasets:
            raise UserError(f"data_sources has {source.name!r}, which is not among the datasets")
    for name in suite.mirrors:
        data.dataset(name)
    network: Any = suite.network
    for dataset in suite.datasets:
        models.check_shape(network.name, suite.dataset(dataset).shape)
    threat: Any = suite.threat
    norm = threat.norm
    for variant in suite.variants:
        known = method_facts.of(variant.method).norms
        if norm not in known:
            raise UserError(
                f"variant {variant.label}: {variant.method} cannot train for the norm {norm}, only for "
                f"{' and '.join(known)}"
            )
    for variant in suite.variants:
        _check_teacher(variant, {one.label: one for one in suite.variants})
    labels = {variant.label for variant in suite.variants}
    for variant in suite.variants:
        if variant.base is not None and (variant.base not in labels or variant.base == variant.label):
            raise UserError(
                f"variant {variant.label}: base is {variant.base!r}; it must be the label of another variant"
            )


def _check_teacher(variant: Variant, variants: dict[str, Variant]) -> None:
    if not method_facts.of(variant.method).needs_teacher:
        if variant.teacher is not None:
            raise UserError(f"variant {variant.label}: teacher is {variant.teacher!r}, but {variant.method} has none")
        return
    teacher = variants.get(variant.teacher or "")
    if teacher is None or teacher is variant:
        raise UserError(
            f"variant {variant.label}: teacher is {variant.teacher!r}; {variant.method} needs another variant's label"
        )
    for key in ("max_train_images", "validation_images"):
        if variant.training.get(key) != teacher.training.get(key):
            raise UserError(
                f"variant {variant.label}: its teacher, {teacher.label}, has another training.{key}; both must have one"
            )
    if teacher.teacher is not None:
        raise UserError(f"variant {variant.label}: its teacher, {teacher.label}, has a teacher itself; name another")


def check_method(variant: Variant, training: Training) -> None:
    """Raise UserError unless the variant's method makes sense under its protocol."""
    facts = method_facts.of(variant.method)
    if training.crafting_batch_norm == "eval" and facts.reuses_crafting_graph:
        raise UserError(
            f"variant {variant.label}: {variant.method} uses its crafting pass to update weights, "
            "so that crafting_batch_norm must be train"
        )
    if training.label_smoothing and not facts.smooths_labels:
        raise UserError(
            f"variant {variant.label}: {variant.method} has training targets of its own, so that label_smoothing must "
            "be 0"
        )
    if training.weight_averaging is not None and facts.averages_weights:
        raise UserError(
            f"variant {variant.label}: {variant.method} averages its weights by a rule of its own, so that "
            "weight_averaging must be null"
        )
    if training.weight_perturbation and not facts.perturbs_weights:
        raise UserError(
            f"variant {variant.label}: weight_perturbation is not defined for {variant.method}, whose update is not "
            "one after a perturbation; it must be 0"
        )


def _unique(values: list[Any], where: str) -> None:
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise UserError(f"{where} has {twice!r} twice; each may appear once")


def check_fits(training: Training, where: str, datasets: list[Dataset]) -> None:
    """Raise UserError unless the protocol can be followed on every one of the data sets."""
    schedule: Any = training.schedule
    for dataset in datasets:
        available = dataset.train_images
        images = training.max_train_images or available - training.validation_images
        if images < 1 or images + training.validation_images > available:
            raise UserError(
                f"{where}: {training.validation_images} validation_images and {max(images, 1)} training images "
                f"do not fit into the {available} of {dataset.name}; ask for fewer"
            )
        if images % training.batch_size == 1:
            raise UserError(
                f"{where}.batch_size is {training.batch_size}, which leaves a minibatch of one of the {images} "
                f"training images of {dataset.name}, too few for batch norm; take another batch_size or "
                "max_train_images"
            )
        minibatches = training.epochs * -(-images // training.batch_size)
        try:
            plugins.load("schedule", schedule.name).check_span(schedule, minibatches)
        except ValueError as error:
            raise UserError(f"{where}.schedule {error} on {dataset.name}") from None
