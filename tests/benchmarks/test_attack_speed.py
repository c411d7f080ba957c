"""The benchmark of attacks: what it calls plain is made faster by nothing, and it says where verdicts differ."""

import json
import shutil

import pytest
import torch
import yaml

from benchmarks import attacks
from benchmarks.attacks import main
from evaluation import package
from experiment.pgd import Attacked

LOOPS = ["plain", "suite", "again"]


@pytest.fixture
def asked(checkpoint, tmp_path):
    """Arguments for the checkpoint's suite and run, and where the numbers go."""
    suite_file = tmp_path / "suite.yaml"
    suite_file.write_text(yaml.safe_dump(checkpoint.suite.resolved))
    results = tmp_path / "results"
    shutil.copytree(checkpoint.folder, results / checkpoint.suite.name / checkpoint.run.folder)
    return [str(suite_file), checkpoint.run.folder, "--results", str(results), "--threads", "1"]


def measured(asked, tmp_path, *arguments):
    main([*asked, *arguments, "--json", str(tmp_path / "speed.json")])
    return json.loads((tmp_path / "speed.json").read_text())


@pytest.mark.slow
def test_it_prints_a_row_for_each_attack_and_loop_and_writes_what_it_measured_on(asked, tmp_path, capsys):
    numbers = measured(asked, tmp_path, "--attacks", "pgd-20,margin-2", "--images", "60", "--repeats", "2")
    assert [(row["attack"], row["loop"]) for row in numbers["rows"]] == [
        (name, loop) for name in ("pgd-20", "margin-2") for loop in LOOPS
    ]
    assert numbers["images"] == 60
    assert numbers["hardware"]["threads"] == 1
    assert all(len(row["seconds"]) == 2 and min(row["seconds"]) > 0 for row in numbers["rows"])
    printed = capsys.readouterr().out
    assert printed.count("pgd-20") == printed.count("margin-2") == 3
    assert numbers["hardware"]["label"] in printed


@pytest.mark.slow
def test_the_plain_attack_and_the_suite_s_agree_on_every_image(asked, tmp_path):
    numbers = measured(asked, tmp_path, "--attacks", "clean,fgsm,pgd-20,margin-20", "--images", "360", "--repeats", "1")
    for row in numbers["rows"]:
        assert 0 < row["robust"] < 360
        if row["loop"] != "again":
            assert row["only_plain_breaks"] == row["only_this_breaks"] == 0


def test_an_attack_that_the_suite_has_is_run_with_the_suite_s_settings(checkpoint):
    suite = attacks.attacking(checkpoint.suite, ["pgd-20", "pgd-100", "autoattack"])
    assert suite.attacks == ["pgd-20", "pgd-100", "autoattack"]
    assert suite.attack("pgd-20") == checkpoint.suite.attack("pgd-20")
    assert suite.attack("pgd-20")["restarts"] == 2
    assert suite.attack("pgd-100")["restarts"] == 1


def test_verdicts_that_differ_are_counted_in_each_direction(checkpoint, monkeypatch):
    settings, network = checkpoint.suite.attack("pgd-20"), checkpoint.network()
    images, labels = checkpoint.images[:20], checkpoint.labels[:20]
    verdicts = {"plain": torch.arange(20) < 12, "suite": torch.arange(20) >= 5}
    monkeypatch.setattr(attacks, "plain", lambda *_: verdicts["plain"])
    monkeypatch.setattr(attacks, "of_suite", lambda *_: verdicts["suite"])
    plain, suite, again = attacks.measure_attack(settings, network, images, labels, 1)
    assert (plain["robust"], suite["robust"]) == (12, 15)
    assert (suite["only_plain_breaks"], suite["only_this_breaks"]) == (8, 5)
    assert (plain["only_plain_breaks"], plain["only_this_breaks"]) == (0, 0)


def test_the_suite_is_timed_once_more_with_another_seed(checkpoint, monkeypatch):
    settings, seeds = checkpoint.suite.attack("pgd-20"), []
    monkeypatch.setattr(attacks, "warm_up", lambda *_: None)
    monkeypatch.setattr(attacks, "plain", lambda settings, *_: seeds.append(settings["seed"]) or torch.ones(20).bool())
    monkeypatch.setattr(
        attacks, "of_suite", lambda settings, *_: seeds.append(settings["seed"]) or torch.ones(20).bool()
    )
    attacks.measure_attack(settings, checkpoint.network(), checkpoint.images[:20], checkpoint.labels[:20], 2)
    assert seeds == [0, 0, 1] * 2


@pytest.mark.parametrize("name", ["fgsm", "pgd-20", "margin-20"])
def test_the_plain_attack_carries_every_image_to_the_end_in_batches_of_200(checkpoint, name):
    network, sizes = checkpoint.network(), []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    attacks.plain(checkpoint.suite.attack(name), network, checkpoint.images, checkpoint.labels, 0)
    passes = {"fgsm": 1 + 2, "pgd-20": 1 + 2 * 21, "margin-20": 1 + 21}[name]
    assert sorted(sizes) == [160] * passes + [200] * passes


def test_the_plain_autoattack_is_the_package_s_on_the_network_itself(checkpoint, monkeypatch):
    network, settings = checkpoint.network(), checkpoint.suite.attack("autoattack")
    images, labels, claimed = checkpoint.images[:3], checkpoint.labels[:3], torch.tensor([True, False, True])

    def attack(searched, *shown, **options):
        *shown, shown_threat = shown
        assert searched is network
        assert [*shown] == [images, labels]
        assert shown_threat.eps == settings["threat"]["eps"]
        assert options == {"seed": 4, "batch_size": 200}
        return Attacked(claimed, images), []

    monkeypatch.setattr(package, "attack", attack)
    assert attacks.plain(settings, network, images, labels, 4) is claimed


@pytest.mark.parametrize("missing", ["model.safetensors", "train.json"])
def test_a_run_without_weights_is_an_error_that_says_which_command_trains_it(asked, tmp_path, missing, capsys):
    (next((tmp_path / "results").glob("*/*/*/seed0")) / missing).unlink()
    with pytest.raises(SystemExit) as ended:
        main(asked)
    (line,) = str(ended.value).splitlines()
    assert f"python -m training.run {asked[0]} digits/pgd-7/seed0 --results {tmp_path / 'results'}" in line


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(["--attacks", "cw"], "cw")],
)
def test_what_cannot_be_measured_is_an_error_of_one_sentence(asked, wrong, said):
    with pytest.raises(SystemExit) as ended:
        main([*asked, *wrong])
    (line,) = str(ended.value).splitlines()
    assert said in line
