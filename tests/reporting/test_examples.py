import json
from dataclasses import replace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch

from evaluation.run import load_network
from experiment import data, models, weights
from experiment.data import dataset, prepare
from experiment.errors import UserError
from experiment.suite import Suite
from reporting import examples

pytestmark = pytest.mark.slow

# By label: accuracy under the headline attack, compute, status.
STANDINGS = {
    "pgd-7": (0.88, 160, "ok"),
    "pgd+mplus": (0.86, 90, "ok"),
    "free-8": (0.85, 160, "ok"),
    "fast": (0.83, 40, "ok"),
    "fast+mplus": (0.84, 39, "collapsed"),
    "yopo-5-3": (0.80, 100, "ok"),
}
VARIANTS = [
    {"label": "pgd-7", "method": "pgd"},
    {"label": "pgd+mplus", "method": "pgd", "steps": {"rule": "mplus"}, "base": "pgd-7"},
    {"label": "free-8", "method": "free"},
    {"label": "fast", "method": "fast"},
    {"label": "fast+mplus", "method": "fast", "steps": {"rule": "mplus"}, "base": "fast"},
    {"label": "yopo-5-3", "method": "yopo"},
]


class Results:
    """A suite's folder with untrained networks for weights, and a runs.csv that says how good they are."""

    def __init__(self, root, dataset, standings=STANDINGS, **changes):
        self.dataset = dataset
        self.suite = Suite.from_mapping(
            {
                **{"suite": "tiny", "datasets": [dataset], "data_dir": str(root / "data")},
                **{"network": {"name": "small_cnn"}, "threat": {"eps": 0.1}, "seeds": [3, 4]},
                "training": {"epochs": 2, "batch_size": 64, "lr": 0.05},
                "evaluation": {"attacks": ["clean", "margin-2", "pgd-3"]},
                "variants": VARIANTS,
            }
            | changes
        )
        self.folder = root / "results" / "tiny"
        rows = []
        for label, (accuracy, compute, status) in standings.items():
            for seed in (3, 4):
                run = self.suite.run(f"{dataset}/{label}/seed{seed}")
                shape = data.dataset(dataset)
                network = models.build(
                    "small_cnn",
                    **{"classes": shape.classes, "shape": shape.shape, "mean": shape.mean, "std": shape.std},
                    **{"activation": "relu", "seed": seed},
                )
                sha256 = weights.save(self.folder / run.folder / "model.safetensors", network.state_dict())
                common = {"dataset": dataset, "variant": label, "seed": seed, "status": status, "compute": compute}
                common |= {"weights_sha256": sha256}
                rows += [
                    common | {"attack": "clean", "accuracy": 0.95},
                    common | {"attack": "pgd-3", "accuracy": accuracy},
                ]
        self.runs = pd.DataFrame(rows)
        self.runs.to_csv(self.folder / "runs.csv", index=False)

    def made(self):
        path = examples.make(self.suite, self.dataset, self.folder)
        return path, json.loads(path.with_suffix(".json").read_text())

    def chosen(self):
        return examples.choose(self.suite, self.runs, self.folder / self.dataset)


@pytest.fixture
def digits(tmp_path):
    prepare("digits", tmp_path / "data")
    return Results(tmp_path, "digits")


def test_the_examples_are_a_picture_with_a_caption_and_a_text_that_names_what_the_networks_say(digits):
    path, said = digits.made()
    assert path == digits.folder / "examples" / "digits.png"
    assert min(matplotlib.image.imread(path).shape[:2]) > 600
    images, labels = digits.suite.load_split("digits", "test")
    network = load_network(
        digits.suite.run("digits/pgd-7/seed3"),
        dataset("digits"),
        digits.folder / "digits/pgd-7/seed3/model.safetensors",
        digits.runs["weights_sha256"].iloc[0],
    )
    before = network(images[:1].float() / 255).argmax(1).item()
    assert f"Test image 0, labelled {labels[0]}: pgd-7 says {before}, attacked " in said["alt"]
    assert "pgd-3 (steps of 0.25 eps) within eps = 0.1" in said["caption"]
    assert "pgd-7 (most accurate under pgd-3, seed 3)" in said["caption"]


def test_the_same_results_give_the_same_bytes(digits):
    first = [file.read_bytes() for file in sorted(digits.made()[0].parent.iterdir())]
    assert [file.read_bytes() for file in sorted(digits.made()[0].parent.iterdir())] == first


def test_the_images_are_the_first_of_different_classes_whatever_the_networks_make_of_them(digits):
    images, labels = digits.suite.load_split("digits", "test")
    seen = examples.sample(images, labels, iter(()))
    expected = []
    for place, label in enumerate(labels.tolist()):
        if label not in [labels[other].item() for other in expected]:
            expected.append(place)
    assert seen.places == expected[:4]
    assert torch.equal(seen.images, images[seen.places].float() / 255)
    assert not seen.chosen


def test_the_first_image_that_the_evaluation_found_broken_is_added_and_the_caption_says_so(digits):
    choices = digits.chosen()
    for choice in choices:
        folder = digits.folder / "digits" / choice.variant / f"seed{choice.seed}" / "evaluate"
        folder.mkdir()
        clean, robust = np.ones(360, bool), np.ones(360, bool)
        clean[10], robust[[0, 10, 30]] = False, False  # 0 is shown anyway, 10 is wrong without an attack
        if choice.variant == "fast+mplus":
            robust[20] = False
        np.save(folder / "clean.robust.npy", clean)
        np.save(folder / "pgd-3.robust.npy", robust)
    assert list(examples.first_broken("pgd-3", choices, digits.folder / "digits")) == [0, 20, 30]
    assert "the first other one that pgd-3 broke for one of them (number 20)" in digits.made()[1]["caption"]


def test_what_is_shown_is_the_most_accurate_its_like_with_mplus_and_the_cheapest_of_the_others(digits):
    assert [(choice.variant, choice.why, choice.seed) for choice in digits.chosen()] == [
        ("pgd-7", "most accurate under pgd-3", 3),
        ("pgd+mplus", "most accurate with M+", 3),
        ("fast+mplus", "cheapest", 3),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pgd-7": (0.1, 160, "ok")}, {"pgd+mplus", "free-8", "fast+mplus"}),  # the best is an M+ one: its like without
        ({"pgd+mplus": (0.86, 90, "diverged")}, {"pgd-7", "fast+mplus", "fast"}),
        ({"fast": (0.83, 1, "ok")}, {"pgd-7", "pgd+mplus", "fast"}),
        ({"pgd-7": (0.88, 1, "ok")}, {"pgd-7", "pgd+mplus", "fast+mplus"}),  # three, if the best is the cheapest too
        ({label: (float("nan"), 10, "ok") for label in STANDINGS}, {"pgd-7", "pgd+mplus", "free-8"}),
    ],
)
def test_the_choice_follows_the_results(tmp_path, changes, expected):
    assert {choice.variant for choice in Results(tmp_path, "digits", STANDINGS | changes).chosen()} == expected


def test_a_run_without_weights_gives_way_to_the_next_seed_and_then_to_another_variant(digits):
    (digits.folder / "digits/pgd-7/seed3/model.safetensors").unlink()
    assert ("pgd-7", 4) in [(choice.variant, choice.seed) for choice in digits.chosen()]
    (digits.folder / "digits/pgd-7/seed4/model.safetensors").unlink()
    chosen = [choice.variant for choice in digits.chosen()]
    assert "pgd-7" not in chosen
    assert len(chosen) == 3


def test_two_variants_are_shown_where_there_are_no_more(tmp_path):
    prepare("digits", tmp_path / "data")
    few = Results(tmp_path, "digits", {label: STANDINGS[label] for label in ("fast", "fast+mplus")})
    assert len(few.chosen()) == 2
    assert few.made()[0].exists()


def test_where_every_run_diverged_the_picture_says_so(tmp_path):
    gone = Results(tmp_path, "digits", {label: (float("nan"), 10, "diverged") for label in STANDINGS})
    path, said = gone.made()
    assert said["caption"] == said["alt"] == "digits: no network is left to attack."
    assert path.exists()


def test_an_adversarial_image_lies_in_the_ball_and_the_box_and_is_drawn_as_it_is(digits):
    choice = digits.chosen()[0]
    seen = examples.sample(*digits.suite.load_split("digits", "test"), iter(()))
    shown = examples.attacked(digits.suite, "digits", choice, "pgd-3", seen, digits.folder / "digits")
    delta = shown.adversarial - seen.images
    assert 0 < delta.abs().max() <= 0.1 + 1e-6
    assert shown.adversarial.min() >= 0
    assert shown.adversarial.max() <= 1
    figure = examples.draw([shown], seen, dataset("digits").class_names, 0.1)
    drawn = [axes.images[0].get_array() for axes in figure.axes[:3]]
    np.testing.assert_allclose(drawn[0], seen.images[0, 0])
    np.testing.assert_allclose((drawn[1] - 0.5) * 2 * 0.1, delta[0, 0], atol=1e-6)
    np.testing.assert_allclose(drawn[2], shown.adversarial[0, 0])
    assert {axes.images[0].get_interpolation() for axes in figure.axes} == {"nearest"}


def test_a_wrong_prediction_is_marked_by_a_sign_and_not_by_colour_alone(digits):
    seen = examples.sample(*digits.suite.load_split("digits", "test"), iter(()))
    labels = seen.labels.tolist()
    choice = examples.Choice("pgd-7", "why", 3, "0")
    shown = examples.Examples(choice, seen.images, labels, [labels[0], *((label + 1) % 10 for label in labels[1:])], [])
    figure = examples.draw([shown], seen, dataset("digits").class_names, 0.1)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    arrows = [text for text in texts if "→" in text]
    assert arrows[0] == f"{labels[0]} → {labels[0]}"
    assert arrows[1:] == [f"{label} → {(label + 1) % 10} ✗" for label in labels[1:]]


def test_colour_images_and_names_of_classes_are_shown(tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(30) % 7
    path = tmp_path / "data" / "prepared" / "cifar100" / "test.safetensors"
    data._save(path, images.numpy(), labels.numpy())
    small = replace(dataset("cifar100"), test_images=30, sha256={"test": data.sha256(images, labels)})
    monkeypatch.setattr("experiment.datasets.cifar100.DATASET", small)
    path, said = Results(tmp_path, "cifar100", threat={"eps": "8/255"}).made()
    assert "labelled aquarium_fish" in said["alt"]
    assert "each channel 15.9 times as strong" in said["caption"]
    pixels = matplotlib.image.imread(path)[..., :3]
    assert (pixels.max(-1) != pixels.min(-1)).any()


def test_weights_other_than_those_of_runs_csv_are_refused(digits):
    other = digits.folder / "digits/pgd-7/seed4/model.safetensors"
    other.replace(digits.folder / "digits/pgd-7/seed3/model.safetensors")
    with pytest.raises(UserError, match="pgd-7/seed3/model.safetensors has weights of SHA-256"):
        digits.made()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "runs.csv: not readable"),
        (lambda path: path.write_text("a,b\n1,2\n"), "runs.csv: not readable"),
    ],
)
def test_a_missing_or_damaged_runs_csv_is_told_in_a_sentence(digits, damage, message):
    damage(digits.folder / "runs.csv")
    with pytest.raises(UserError, match=message):
        digits.made()


def test_an_unknown_data_set_is_told(digits):
    with pytest.raises(UserError, match="suite tiny has no data set 'mnist'; it has digits"):
        examples.make(digits.suite, "mnist", digits.folder)


def test_the_first_pgd_of_the_suite_is_shown_or_else_its_first_attack(tmp_path):
    def shown(*attacks):
        content = {"suite": "s", "datasets": ["digits"], "network": {"name": "small_cnn"}, "threat": {"eps": 0.1}}
        content |= {"training": {"epochs": 2, "batch_size": 64, "lr": 0.05}, "seeds": [0], "variants": VARIANTS[:1]}
        return examples.attack_shown(Suite.from_mapping(content | {"evaluation": {"attacks": list(attacks)}}))

    assert shown("clean", "margin-5", "pgd-20", "pgd-5") == "pgd-20"
    assert shown("clean", "autoattack", "fgsm") == "autoattack"
    assert shown("clean") is None


@pytest.mark.parametrize("name", data.names())
def test_every_class_of_a_data_set_has_a_name_of_its_own(name):
    known = dataset(name)
    assert len(set(known.class_names)) == len(known.class_names) == known.classes


def test_the_classes_of_cifar_are_named_in_alphabetical_order_as_their_labels_are():
    for name in ("cifar10", "cifar100"):
        assert list(dataset(name).class_names) == sorted(dataset(name).class_names)


@pytest.mark.fault("input")
@pytest.mark.parametrize("label", ["1.0", "010", "nan"])
def test_a_label_that_looks_like_a_number_is_still_the_variant_s(tmp_path, label):
    columns = "dataset,seed,variant,status,attack,accuracy,compute,weights_sha256\n"
    (tmp_path / "runs.csv").write_text(
        f"{columns}digits,0,{label},ok,clean,0.9,20,ab\ncifar10,0,{label},ok,clean,,20,ab\n"
    )
    (row,) = examples._runs(tmp_path / "runs.csv", "digits").itertuples()
    assert (row.variant, row.seed, row.accuracy) == (label, 0, 0.9)
