"""Suites: what is accepted, what it becomes, and what every mistake says."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

import benchmarks.attacks
import benchmarks.training
import evaluation.run
import reporting.examples
import training.run
from evaluation.chunks import chunk_seed
from experiment import method_facts, plugins, schema, strict_yaml
from experiment.errors import UserError
from experiment.quantity import quantity
from experiment.suite import Suite

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"
BUILT = ("steps", "schedule", "optimizer", "network", "threat")
SUITES = sorted(path for path in CONFIGS.glob("*.yaml") if path.name != "suite.schema.yaml")


def quick() -> dict:
    return yaml.safe_load((CONFIGS / "quick.yaml").read_text())


def changed(path: str, value) -> dict:
    """The default suite with one key set; `path` like "training.epochs" or "variants.0.label"."""
    suite = quick()
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target = suite
    for part in parents:
        target = target[part] if isinstance(part, int) else target.setdefault(part, {})
    target[last] = value
    return suite


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_of_the_project_is_valid_and_named_after_its_file(path):
    suite = Suite.load(path)
    assert suite.name == path.stem
    assert len({run.folder for run in suite.runs()}) == len(list(suite.runs()))


def test_the_default_suite_has_ten_variants_three_seeds_and_four_attacks():
    suite = Suite.load(CONFIGS / "quick.yaml")
    assert len(list(suite.runs())) == 30
    assert suite.attacks == ["clean", "pgd-20", "margin-20", "autoattack"]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("colour", 1, "colour"),
        ("training.epoch", 1, "epoch"),
        ("training.schedule.shape", 1, "shape"),
        ("threat.radius", 1, "radius"),
        ("network.depth", 1, "width"),
        ("evaluation.atacks", [], "atacks"),
        ("variants.0.metod", "pgd", "metod"),
        ("variants.0.method", "nope", "'nope'"),
        ("variants.0.steps", {"rule": "sometimes"}, "sometimes"),
        ("variants.0.steps", {"pace": 3}, "pace"),
        ("variants.0.options", {"colour": "red"}, "colour"),
        ("variants.6.options", {"inner_steps": "three"}, "three"),
        ("variants.0.training", {"epoch": 3}, "epoch"),
        ("variants.0.training", {"epochs": 0}, "epochs"),
        ("variants.1.base", "nope", "nope"),
        ("variants.1.base", "pgd+mplus", "another"),
        ("variants.0.label", "a/b", "a/b"),
        ("variants.0.label", "../up", "../up"),
        ("variants.0.label", "pgd+mplus", "twice"),
        ("variants", [], "variants"),
        ("datasets", ["imagenet"], "imagenet"),
        ("datasets", ["digits", "digits"], "twice"),
        ("network.name", "lenet", "lenet"),
        ("network.activation", "sine", "sine"),
        ("evaluation.attacks", ["pgd"], "pgd"),
        (
            "evaluation.attacks",
            ["pgd-0"],
            "'pgd-0'; K of pgd-K is its steps: a whole number from 1 to",
        ),
        ("evaluation.attacks", ["margin-03"], "without leading zero"),
        ("evaluation.attacks", ["clean", "clean"], "twice"),
        ("evaluation.attacks", [{"name": "pgd-5", "step_size": -1}], "step_size"),
        ("threat.eps", 0, "(0, 1]"),
        ("threat.eps", 8, "(0, 1]"),
        ("threat.eps", -0.1, "(0, 1]"),
        ("threat.eps", "eight", "eight"),
        ("threat.eps", "8/0", "8/0"),
        ("threat.eps", float("nan"), "nan"),
        ("threat.norm", "l7", "l7"),
        ("seeds", [], "seeds"),
        ("seeds", [1, 1], "twice"),
        ("seeds", [-1], "seeds"),
        ("seeds", ["a"], "seeds"),
        ("training.epochs", 0, "epochs"),
        ("training.epochs", "many", "epochs"),
        ("training.lr", 0, "lr"),
        ("training.lr", "fast", "lr"),
        ("training.optimizer", {"momentum": 1}, "training.optimizer.momentum is 1; it must be below 1"),
        ("training.optimizer", {"name": "sgdd"}, "optimizer 'sgdd', which is not known; there are"),
        ("training.optimizer", {"momentum": 0, "weight_decay": -1}, "weight_decay is -1; it must be at least 0"),
        ("training.batch_size", 1, "batch_size"),
        ("training.validation_images", 1437, "validation_images"),
        ("training.max_train_images", 1300, "1300"),
        ("training.schedule", {"milestones": [0.0001]}, "never fires"),
        ("training.schedule", {"milestones": [1.5]}, "1.5"),
        ("training.schedule", {"peak_momentum": 0.8}, "unknown key 'peak_momentum'; its keys are factor, milestones"),
        ("training.schedule", {"name": "cyclic", "peak_momentum": 0.9}, "below momentum, 0.9"),
        ("training.schedule", {"name": "cyclic", "peak_momentum": -0.1}, "must not be negative"),
        ("suite", "Quick!", "Quick!"),
        ("suite", "..", ".."),
        ("variants.0.label", "pgd\n", "a name is made of"),
        ("seeds", [2**32], "seeds"),
        ("seeds", [1.0], "seeds[0] is 1.0; it must be a whole number"),
        ("training.batch_size", 64.0, "batch_size is 64.0; it must be a whole number"),
        ("training.epochs", True, "epochs is True; it must be a whole number"),
        ("variants.0.options", {1: 2, "colour": "red"}, "the key 1"),
        ("network.name", "vgg16_bn", "these are 8x8"),
    ],
)
def test_a_mistake_is_named_in_one_sentence(path, value, says):
    with pytest.raises(UserError) as caught:
        Suite.from_mapping(changed(path, value))
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.fault("input")
@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("suite", "reference", "the folder of published results"),
        ("suite", "a" * 300, "at most 100"),
        ("variants.0.label", "a" * 300, "at most 100"),
        ("data_dir", "d{x}", "without the braces"),
        ("data_dir", "", "in one line"),
        ("data_dir", "a\nb", "in one line"),
        ("data_dir", "a\0b", "in one line"),
        ("data_dir", "\ud800", "in one line"),
        ("data_dir", "~nobody-of-this-name/data", "home"),
        ("mirrors", {"digits": ["http://a\0"]}, "in one line"),
        ("threat", {1: 2, "eps": 0.1}, "the key 1"),
        ("threat.eps", "1e999999999", "threat.eps"),
        ("threat.eps", "9" * 5000, "characters"),
        ("evaluation.attacks", [{"name": "pgd-5", "step_size": 2}], "pixel units"),
        ("evaluation.attacks", [{"name": "pgd-5", "seed": 20261127123456}], "seed"),
        ("evaluation.attacks", [{"name": "pgd-5", "seed": -1}], "seed"),
        (
            "evaluation.attacks",
            [{"name": "clean", "restarts": 2}],
            "unknown key 'restarts'; its keys are eps, images, label, name",
        ),
        ("evaluation.attacks", [{"name": "clean", "seed": 2}], "unknown key 'seed'"),
        ("evaluation.attacks", [{"name": "fgsm", "step_size": 0.1}], "unknown key 'step_size'"),
        ("evaluation.attacks", [{"name": "autoattack", "restarts": 2}], "its keys are eps, images, label, name, seed"),
        ("evaluation.attacks", ["pgd-100000"], "pgd-100000"),
        ("evaluation.attacks", ["pgd-K"], "a whole number from 1"),
        ("evaluation.attacks", ["clean-3"], "the attacks are "),
        ("evaluation.attacks", ["pgd-5\n"], "a whole number from 1"),
        ("variants.0.steps", {"step_size": 2}, "pixel units"),
        ("variants.0.steps", {"rule": "amata", "total": 20}, "total / most"),
        ("variants.0.steps", {"rule": "accuracy", "threshold": float("nan")}, "threshold is nan"),
        ("training.schedule", {"milestones": [float("nan")]}, "milestones[0] is nan"),
        ("training.lr", float("inf"), "training.lr is inf"),
        ("checkpoint_seconds", float("inf"), "checkpoint_seconds is inf"),
        ("training.epochs", 10**400, "within 2^53"),
        ("training.max_train_images", 65, "minibatch of one of the 65 training images"),
        ("variants.0.training", {"batch_size": 12}, "variant pgd-7: training.batch_size is 12"),
        ("variants.0.options", {"noise": [1]}, "no option"),
    ],
)
def test_what_would_fail_after_hours_is_refused_before_work_starts(path, value, says):
    with pytest.raises(UserError) as caught:
        Suite.from_mapping(changed(path, value))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.fault("input")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_number_of_a_suite_is_other_than_finite(value):
    def places(part, path=()):
        if isinstance(part, dict | list):
            for key, inner in part.items() if isinstance(part, dict) else enumerate(part):
                yield from places(inner, (*path, key))
        elif type(part) in (int, float):
            yield path

    whole = Suite.from_mapping(quick()).resolved
    numbers = list(places(whole))
    assert len(numbers) > 50
    for *parents, last in numbers:
        suite = copy.deepcopy(whole)
        target = suite
        for key in parents:
            target = target[key]
        target[last] = value
        with pytest.raises(UserError, match=f" is {value}; a number must be finite"):
            Suite.from_mapping(suite)


@pytest.mark.fault("input")
def test_one_more_image_than_whole_minibatches_is_refused_and_two_are_not():
    suite = changed("training.batch_size", 64)
    for images, refused in [(64, False), (65, True), (66, False), (129, True), (1, True)]:
        suite["training"]["max_train_images"] = images
        if refused:
            with pytest.raises(UserError, match=f"minibatch of one of the {images} training images of digits"):
                Suite.from_mapping(suite)
        else:
            Suite.from_mapping(suite)


@pytest.mark.fault("input")
def test_an_attack_has_the_keys_that_it_heeds_and_no_others():
    suite = Suite.from_mapping(changed("evaluation.attacks", ["clean", "fgsm", "pgd-5", "margin-5", "autoattack"]))
    usual = {"name", "images", "threat"}
    further = {"autoattack": {"seed"}} | dict.fromkeys(["pgd-5", "margin-5"], {"seed", "step_size", "restarts"})
    assert {name: set(suite.attack(name)) - usual for name in suite.attacks} == dict.fromkeys(
        suite.attacks, set()
    ) | further


@pytest.mark.fault("input")
def test_the_largest_seed_of_an_attack_is_one_that_every_chunk_of_images_can_be_given():
    seed = 2**32 - 1
    settings = Suite.from_mapping(changed("evaluation.attacks", [{"name": "pgd-5", "seed": seed}])).attack("pgd-5")
    torch.Generator().manual_seed(chunk_seed(settings, 10**9))
    torch.manual_seed(chunk_seed(settings, 10**9))


@pytest.mark.fault("place")
def test_a_tilde_in_the_data_dir_is_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    suite = Suite.from_mapping(changed("data_dir", "~/mydata"))
    assert suite.data_file("digits", "train") == tmp_path / "mydata/prepared/digits/train.safetensors"
    assert suite.resolved["data_dir"] == "~/mydata"


@pytest.mark.fault("input")
@pytest.mark.parametrize("label", ["1.0", "010", "1e5"])
def test_a_label_may_look_like_a_number(label):
    suite = Suite.from_mapping(changed("variants.0.label", label) | {"variants": [{"label": label, "method": "pgd"}]})
    assert [run.variant for run in suite.runs()] == [label] * 3


@pytest.mark.fault("input")
@pytest.mark.parametrize(
    ("defaults", "says"),
    [
        ("steps: 5\n", "steps is 5; it must be a mapping"),
        ("steps: {constant: 5}\n", "steps.constant is 5; it must be a mapping"),
        ("steps: {slowly: {}}\n", "steps has the rule 'slowly', which is not known; there are accuracy"),
        ("options: [a]\n", "options is ['a']; it must be a mapping"),
        ("options: {a: [1]}\n", "options.a is [1]; it must be text, a number"),
        ("options: {a: .nan}\n", "options.a is nan"),
        ("colour: red\n", "unknown key 'colour'"),
        ("[1, 2]\n", "the file is [1, 2]; it must be a mapping"),
        ("steps: [\n", ", line 2: not readable as YAML"),
        ("steps: {constant: {steps: seven, step_size: 0.1}}\n", "steps.steps is 'seven'; it must be a whole number"),
    ],
)
def test_defaults_of_another_form_are_refused_with_their_file(tmp_path, monkeypatch, defaults, says):
    folder = tmp_path / "methods" / "mine"
    folder.mkdir(parents=True)
    (folder / "method.py").write_text("class Mine(Method):\n    pass\n")
    (folder / "defaults.yaml").write_text(defaults)
    monkeypatch.setattr("experiment.method_facts.ROOT", tmp_path)
    with pytest.raises(UserError) as caught:
        Suite.from_mapping(changed("variants", [{"label": "it", "method": "mine"}]))
    assert says in str(caught.value)
    assert "mine" in str(caught.value) or "variant it" in str(caught.value)


@pytest.mark.fault("input")
@pytest.mark.parametrize("text", ["-1", "0", "1.5", "many", "", "1" * 5000, "99999"])
@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (training.run.main, ["digits/pgd-7/seed0"]),
        (evaluation.run.main, ["digits/pgd-7/seed0", "clean"]),
        (reporting.examples.main, []),
        (benchmarks.training.main, []),
        (benchmarks.attacks.main, []),
    ],
)
def test_a_number_of_threads_that_no_machine_has_is_refused_by_every_command(main, arguments, text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["configs/quick.yaml", *arguments, "--threads", text])
    assert ended.value.code == 2
    assert "argument --threads: it " in capsys.readouterr().err


@pytest.mark.parametrize(
    "key", ["suite", "datasets", "network", "threat", "training", "evaluation", "seeds", "variants"]
)
def test_a_missing_key_is_named(key):
    suite = quick()
    del suite[key]
    with pytest.raises(UserError, match=key):
        Suite.from_mapping(suite)


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_a_file_that_is_no_mapping_is_an_error(content):
    with pytest.raises(UserError):
        Suite.from_mapping(content)


def test_a_file_that_is_no_yaml_or_not_there_is_an_error(tmp_path):
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match=r"broken\.yaml"):
        Suite.load(tmp_path / "broken.yaml")
    with pytest.raises(UserError, match="missing"):
        Suite.load(tmp_path / "missing.yaml")


def test_a_variant_takes_the_defaults_of_its_method_and_may_override_them():
    suite = Suite.from_mapping(changed("variants.0.steps", {"steps": 3}))
    assert suite.run("digits/pgd-7/seed0").spec["steps"] == {"rule": "constant", "steps": 3, "step_size": 0.025}
    assert suite.run("digits/fast/seed0").spec["steps"]["step_size"] == pytest.approx(1.25 * 0.1)


def test_a_variants_training_keys_change_that_variant_alone():
    suite = Suite.from_mapping(changed("variants.0.training", {"epochs": 30}))
    assert suite.run("digits/pgd-7/seed1").spec["training"]["epochs"] == 30
    assert suite.run("digits/fast/seed1").spec["training"]["epochs"] == quick()["training"]["epochs"]


def test_a_variants_schedule_keeps_the_suites_other_keys():
    suite = changed("training.schedule", {"name": "cyclic", "peak": 0.3})
    suite["variants"][0]["training"] = {"schedule": {"unit": "update"}}
    schedule = Suite.from_mapping(suite).run("digits/pgd-7/seed0").spec["training"]["schedule"]
    assert (schedule["name"], schedule["peak"], schedule["unit"]) == ("cyclic", 0.3, "update")


def test_loading_does_not_change_what_it_was_given():
    suite = quick()
    before = copy.deepcopy(suite)
    Suite.from_mapping(suite)
    assert suite == before


def test_resolving_a_made_up_suite_changes_nothing():
    resolved = Suite.load(CONFIGS / "cifar10.yaml").resolved
    assert Suite.from_mapping(resolved).resolved == resolved


def test_eps_as_a_fraction_is_that_fraction():
    assert Suite.load(CONFIGS / "cifar10.yaml").resolved["threat"]["eps"] == 8 / 255


@pytest.mark.parametrize(
    ("value", "eps", "number"),
    [(0.1, None, 0.1), ("8/255", None, 8 / 255), ("5e-4", None, 5e-4), ("0.25 eps", 0.4, 0.1), ("eps", 0.4, 0.4)],
)
def test_a_quantity_is_read_as_the_field_writes_it(value, eps, number):
    assert quantity(value, "it", eps) == pytest.approx(number, rel=1e-15)


@pytest.mark.parametrize("value", ["", "abc", "1/0", True, None, "0.25 eps", "__import__('os')", "inf", [1]])
def test_what_is_no_quantity_is_an_error_that_names_its_key(value):
    with pytest.raises(UserError, match="threat.eps"):
        quantity(value, "threat.eps")


def test_a_whole_number_may_stand_where_an_option_is_a_fraction():
    suite = Suite.from_mapping(changed("variants", [{"label": "it", "method": "n_fgsm", "options": {"noise": 3}}]))
    noise = suite.resolved["variants"][0]["options"]["noise"]
    assert (noise, type(noise)) == (3.0, float)


def test_a_key_that_is_there_twice_is_refused_with_its_line(tmp_path):
    file = tmp_path / "twice.yaml"
    file.write_text("suite: twice\nseeds: [0, 1, 2]\nseeds: [0]\n")
    with pytest.raises(UserError, match="twice.yaml, line 3: .*the key 'seeds' twice"):
        Suite.load(file)


def test_a_mapping_may_override_keys_that_it_merges():
    text = "usual: &usual {steps: 7, step_size: 0.1}\nlong: {<<: *usual, steps: 20}\n"
    assert strict_yaml.parse(text.encode(), "a file")["long"] == {"steps": 20, "step_size": 0.1}


def test_every_key_of_a_suite_is_described():
    def undescribed(part, where):
        for key, value in part.get("properties", {}).items():
            if "description" not in value and "$ref" not in value:  # whose own description is what it refers to
                yield f"{where}.{key}"

    whole = Suite.model_json_schema(by_alias=True)
    parts = [whole, *whole["$defs"].values()]
    parts += [plugins.parameters(kind, name).model_json_schema() for kind in BUILT for name in plugins.names(kind)]
    missing = [name for part in parts for name in undescribed(part, part["title"])]
    assert missing == []


@pytest.mark.fault("stale")
@pytest.mark.parametrize("name", [schema.SCHEMA, schema.TABLE])
def test_the_schema_and_the_table_of_keys_are_those_of_the_types(name):
    assert (CONFIGS.parent / name).read_text() == schema.files()[name], "run python -m experiment.schema"


def test_the_margin_of_equivalence_is_a_point_unless_said_and_touches_neither_runs_nor_attacks():
    evaluation = {"attacks": ["clean", "pgd-20"]}
    usual, other = (
        Suite.from_mapping(changed("evaluation", each))
        for each in (evaluation, evaluation | {"equivalence_margin": 0.5})
    )
    assert usual.resolved["evaluation"]["equivalence_margin"] == 1
    assert other.resolved["evaluation"]["equivalence_margin"] == 0.5
    assert list(usual.runs()) == list(other.runs())
    assert usual.attack("pgd-20") == other.attack("pgd-20")


@pytest.mark.parametrize("margin", [0, -1, 101, "1 point", None])
def test_a_margin_that_is_no_number_of_points_is_refused(margin):
    with pytest.raises(UserError, match="evaluation.equivalence_margin"):
        Suite.from_mapping(changed("evaluation", {"attacks": ["clean"], "equivalence_margin": margin}))


def test_a_variant_may_have_another_network_or_other_keys_of_the_suite_s():
    own = {"label": "it", "method": "pgd", "network": {"activation": "silu"}}
    other = {"label": "other", "method": "pgd", "network": {"name": "preact_resnet18", "width": 4}}
    suite = Suite.from_mapping(changed("variants", [{"label": "usual", "method": "pgd"}, own, other]))
    usual, silu, resnet = (run.spec["network"] for run in list(suite.runs())[:3])
    assert silu == {**usual, "activation": "silu"} != usual
    assert (resnet["name"], resnet["width"], resnet["activation"]) == ("preact_resnet18", 4, "relu")
    assert suite.resolved["variants"][1]["network"] == {"activation": "silu"}


@pytest.mark.fault("input")
@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"activation": "cubic"}, "variant it: network.activation is 'cubic'"),
        ({"name": "huge"}, "variant it: network has the network 'huge', which is not known"),
        ({"depth": 3}, "variant it: network"),
        ({"name": "vgg16_bn"}, "vgg16_bn needs images of 32x32 pixels or more"),
    ],
)
def test_a_network_of_a_variant_that_will_not_do_is_refused_in_a_sentence(network, said):
    with pytest.raises(UserError) as caught:
        Suite.from_mapping(changed("variants", [{"label": "it", "method": "pgd", "network": network}]))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["methods", "cifar10_all", "cifar100_all"])
def test_the_suites_of_all_methods_have_all_methods(name):
    assert Suite.load(CONFIGS / f"{name}.yaml").methods == method_facts.names()
