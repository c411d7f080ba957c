"""Suites: one YAML file becomes the list of runs, every number resolved and every name checked before work starts."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from experiment import data, method_facts, models, plugins, strict_yaml
from experiment.data_sources.source import DataSource
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError, shown
from experiment.fields import Cap, Keys, Location, Name, Seed, Text, place, sentence
from experiment.keys import NOT_IN_SETTINGS, Evaluation, Training, Variant
from experiment.plugins import Plugged
from experiment.suite_checks import check_fits, check_method, check_together

if TYPE_CHECKING:  # the Snakefile imports this module at every start, and torch would cost it seconds
    from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
ENTRY: dict[str, Any] = {"anyOf": [{"type": "string"}, DataSource.model_json_schema()]}  # of datasets
MIRROR = ("http://", "https://", "ftp://", "file://")


def _mirror(value: str) -> str:
    if not value.startswith(MIRROR):
        raise ValueError(f"it must begin with one of {', '.join(MIRROR)}")
    return value


@dataclass(frozen=True)
class Run:
    """One training run: a data set, a variant and a seed of a suite. `spec` is everything that defines it."""

    dataset: str
    variant: str
    seed: int
    spec: dict[str, Any]

    @property
    def folder(self) -> str:
        """Where the run's files lie inside the suite's results."""
        return f"{self.dataset}/{self.variant}/seed{self.seed}"


class Suite(Keys):
    """A validated suite: every default filled in, every quantity a float."""

    name: Annotated[Name, Field(alias="suite", description="The suite's name; results go to results/<suite>/.")]
    datasets: Annotated[
        list[Annotated[Name, WithJsonSchema(ENTRY)]],
        Field(
            min_length=1,
            description="Data sets; every variant is trained on each of them. A name, or for images of your own where "
            "they are: `{name: mine, npz: file}` or `{name: mine, images: folder}`.",
        ),
    ]
    data_sources: Annotated[
        list[DataSource],
        Field(
            description="Where images of your own are whose data set is only named in `datasets`; an entry there can "
            "say it itself."
        ),
    ] = []
    data_dir: Annotated[
        Location,
        Field(description="Folder that holds the data sets' files, or gets them; a leading ~ is the user's home."),
    ] = "data"
    mirrors: Annotated[
        dict[str, list[Annotated[Text, AfterValidator(_mirror)]]],
        Field(description="Further addresses to download a data set's archive from, tried before the known ones."),
    ] = {}
    checkpoint_seconds: Annotated[
        float,
        Field(
            gt=0, description="Seconds between the checkpoints that an interrupted run resumes from. Changes no result."
        ),
    ] = 60
    threads: Annotated[
        Cap,
        Field(
            description="CPU threads of a training run; null for all the cores that it is given. On a CPU weights "
            "depend on their number, so that only a suite that says it can be repeated to the bit. Small networks are "
            "fastest on one."
        ),
    ] = None
    network: Annotated[Keys, Plugged("network"), Field(description="The network that every variant trains.")]
    threat: Annotated[
        Keys,
        Plugged("threat", "linf"),
        Field(description="The perturbations that an adversary may make, in training as in evaluation."),
    ]
    training: Annotated[Training, Field(description="The protocol, the same for every variant.")]
    evaluation: Annotated[Evaluation, Field(description="How every evaluated checkpoint is attacked.")]
    seeds: Annotated[
        list[Seed],
        Field(
            min_length=1,
            description="One run for each; a seed sets the initial weights, the order of minibatches and all noise.",
        ),
    ]
    variants: Annotated[list[Variant], Field(min_length=1, description="What is compared.")]

    @model_validator(mode="before")
    @classmethod
    def _with_sources(cls, content: Any) -> Any:
        """What an entry of `datasets` says beside its name is of `data_sources`."""
        entries, sources = (
            content.get(key, []) if isinstance(content, Mapping) else None for key in ("datasets", "data_sources")
        )
        if not (isinstance(entries, list) and isinstance(sources, list)):  # which is said of the key
            return content
        found = {
            place: DataSource.from_mapping(entry, f"datasets[{place}]")
            for place, entry in enumerate(entries)
            if isinstance(entry, Mapping)
        }
        names = [found[place].name if place in found else entry for place, entry in enumerate(entries)]
        return {**content, "datasets": names, "data_sources": [*sources, *found.values()]}

    @field_validator("threat")
    @classmethod
    def _radius(cls, threat: Any, info: ValidationInfo) -> Any:
        """Lengths that are read after it are in units of its radius."""
        if info.context is not None:
            info.context["eps"] = threat.eps
        return threat

    @classmethod
    def load(cls, source: str | Path) -> "Suite":
        """Read a YAML file, or standard input when `source` is "-". Raises UserError."""
        if str(source) == "-":
            return cls.from_mapping(strict_yaml.parse(sys.stdin.buffer.read(), "standard input"))
        return cls.from_mapping(strict_yaml.read(source), str(source))

    @classmethod
    def from_mapping(cls, content: Any, file: str = "") -> "Suite":
        """Validate and resolve. Raises UserError in one sentence that names the key, and the file it is from."""
        try:
            strict_yaml.check_plain(content, "")
            try:
                suite = cls.model_validate(content, context={})
            except ValidationError as error:
                raise sentence(error, lambda loc: _named(loc, content)) from None
            return suite._checked()
        except UserError as error:
            raise UserError(f"{file}: {error}" if file else str(error)) from None

    def _checked(self) -> "Suite":
        """The suite with its variants' overrides resolved, if its parts make sense together. Raises UserError."""
        check_together(self)
        datasets = list(map(self.dataset, self.datasets))
        check_fits(self.training, "training", datasets)
        variants = []
        for variant in self.variants:
            where = f"variant {variant.label}: training"
            overridden = self._overridden(variant, where)
            check_fits(overridden, where, datasets)
            check_method(variant, overridden)
            dumped, differing = overridden.model_dump(mode="json"), set(variant.training)
            if overridden.crafting_batch_norm == "published":
                dumped["crafting_batch_norm"] = method_facts.of(variant.method).published_batch_norm
                differing.add("crafting_batch_norm")
            own = {key: value for key, value in dumped.items() if key in differing}
            network = self._network(variant, datasets).model_dump(mode="json")
            other = {key: value for key, value in network.items() if key in variant.network}
            variants.append(variant.model_copy(update={"training": own, "network": other}))
        return self.model_copy(update={"variants": variants})

    def _overridden(self, variant: Variant, where: str) -> Training:
        """The protocol of one variant."""
        content = self.training.model_dump() | variant.training
        for key in ("schedule", "optimizer"):  # a key of them leaves the suite's others as they are
            usual, own = self.training.model_dump()[key], variant.training.get(key)
            if isinstance(own, Mapping) and own.get("name", usual["name"]) == usual["name"]:
                content[key] = {**usual, **own}
        try:
            return Training.model_validate(content, context={"eps": self._eps})
        except ValidationError as error:
            raise sentence(error, lambda loc: place(loc, where)) from None

    def _network(self, variant: Variant, datasets: list[Dataset]) -> Keys:
        """The network of one variant, which takes the images of all data sets."""
        usual = self.network.model_dump()
        same = variant.network.get("name", usual["name"]) == usual["name"]
        try:
            network = plugins.validated("network", {**(usual if same else {}), **variant.network}, {})
        except ValidationError as error:
            raise sentence(error, lambda loc: place(loc, f"variant {variant.label}: network")) from None
        except ValueError as error:
            raise UserError(f"variant {variant.label}: network {error}") from None
        for dataset in datasets:
            models.check_shape(network.model_dump()["name"], dataset.shape)
        return network

    @property
    def _eps(self) -> float:
        threat: Any = self.threat
        return threat.eps

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """All of it as plain JSON, as records and the copy beside the results have it."""
        found = self.model_dump(by_alias=True, mode="json")
        found["evaluation"]["attacks"] = [attack.model_dump() for attack in self.evaluation.attacks]
        found["data_sources"] = [source.model_dump(mode="json", exclude_none=True) for source in self.data_sources]
        if not self.data_sources:
            del found["data_sources"]
        return found

    @property
    def attacks(self) -> list[str]:
        """The attacks' labels, in the order of the tables' columns."""
        return [attack.label for attack in self.evaluation.attacks]

    @property
    def methods(self) -> list[str]:
        """The methods that its variants train by, each once."""
        return sorted({variant.method for variant in self.variants})

    def runs(self) -> Iterator[Run]:
        """Every run: data sets, then seeds, then variants, so that a cut-off suite holds whole comparisons."""
        yield from self._runs.values()

    def run(self, folder: str) -> Run:
        """The run whose files lie in `folder`, such as "digits/pgd-7/seed0"."""
        if folder not in self._runs:
            raise UserError(f"suite {self.name} has no run {folder!r}; a run is <dataset>/<variant>/seed<k>")
        return self._runs[folder]

    @cached_property
    def _runs(self) -> dict[str, Run]:
        runs = (
            self._run(dataset, variant, seed)
            for dataset in self.datasets
            for seed in self.seeds
            for variant in self.resolved["variants"]
        )
        return {run.folder: run for run in runs}

    def _run(self, dataset: str, variant: Mapping[str, Any], seed: int) -> Run:
        spec = {
            "suite": self.name,
            "dataset": dataset,
            "variant": variant["label"],
            "seed": seed,
            "method": variant["method"],
            "steps": variant["steps"],
            "options": variant["options"],
            "network": self._network_of(variant),
            "threat": self.resolved["threat"],
            "training": {**self.resolved["training"], **variant["training"]},
        }
        if source := self.source(dataset):
            spec["augmentation"] = source.augmentation
        if variant["teacher"] is not None:
            teacher = next(other for other in self.resolved["variants"] if other["label"] == variant["teacher"])
            spec["teacher"] = self._run(dataset, teacher, seed).spec
        return Run(dataset, variant["label"], seed, spec)

    def _network_of(self, variant: Mapping[str, Any]) -> dict[str, Any]:
        usual, own = self.resolved["network"], variant["network"]
        if own.get("name", usual["name"]) == usual["name"]:
            return {**usual, **own}
        return plugins.validated("network", own, {}).model_dump(mode="json")

    def teacher(self, run: Run) -> Run | None:
        """The run that it learns from, if any."""
        if "teacher" not in run.spec:
            return None
        return self.run(f"{run.dataset}/{run.spec['teacher']['variant']}/seed{run.seed}")

    def attack(self, label: str) -> dict[str, Any]:
        """Everything that defines an attack: its own settings, the threat model and the test images."""
        for attack in self.evaluation.attacks:
            if attack.label == label:
                caps = [cap for cap in (attack.images, self.evaluation.max_test_images) if cap]
                settings = attack.model_dump(exclude=NOT_IN_SETTINGS)
                threat = self.resolved["threat"] | ({"eps": attack.eps} if attack.eps is not None else {})
                return {**settings, "images": min(caps, default=None), "threat": threat}
        raise UserError(f"suite {self.name} has no attack {label!r}; it has {', '.join(self.attacks)}")

    @property
    def data_folder(self) -> Path:
        """The folder of the data sets' files; a leading ~ is the user's home."""
        return Path(self.data_dir).expanduser()

    def dataset(self, name: str) -> Dataset:
        """What is known of one of its data sets; of images of a user's own all of it once they are prepared."""
        return data.dataset(self.source(name) or name, self.data_folder)

    def source(self, name: str) -> DataSource | None:
        """Where the images of one of its data sets are, if they are a user's own."""
        return next((source for source in self.data_sources if source.name == name), None)

    def source_arguments(self, name: str) -> list[str]:
        """What tells `python -m experiment.data` where the images are; nothing of a known data set."""
        source = self.source(name)
        if source is None:
            return []
        return ["--npz" if source.npz is not None else "--images", str(source.path)]

    def data_file(self, dataset: str, split: str) -> Path:
        """The prepared file of a split, "train" or "test"."""
        return data.prepared_file(dataset, split, self.data_folder)

    def load_split(self, dataset: str, split: str) -> tuple["Tensor", "Tensor"]:
        """Images and labels of a split, as `experiment.data.load_split` gives them."""
        return data.load_split(self.dataset(dataset), split, self.data_folder)

    def check_files(self) -> None:
        """Raise UserError if a data file that is there is damaged; what is not there is made or downloaded later."""
        for dataset in self.datasets:
            data.check(self.dataset(dataset), self.data_folder)


def _named(loc: tuple[int | str, ...], content: Any) -> str:
    """What a message calls the key at a place of a suite's content."""
    heads = {("variants",): ("label", "variant"), ("evaluation", "attacks"): ("name", "attack")}
    for path, (key, what) in heads.items():
        if loc[: len(path)] == path and len(loc) > len(path):
            part = content
            for step in loc[: len(path) + 1]:
                part = part[step]
            name = part.get(key) if isinstance(part, Mapping) else None
            if isinstance(name, str):
                rest = place(loc[len(path) + 1 :])
                return f"{what} {shown(name)[1:-1]}" + (f": {rest}" if rest else "")
    return place(loc) or "the suite"
