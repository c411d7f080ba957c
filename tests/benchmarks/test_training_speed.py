"""The benchmark's loops make the same passes as training does, and its numbers are of what they say."""

import copy
import json

import pytest
import tiny
import torch
import yaml

import methods
from benchmarks import training
from benchmarks.bare import Backward, BareLoop, backwards
from benchmarks.usual import UsualLearner, UsualLoop, batch_of, loader
from experiment import method_facts, models
from experiment.effort import Effort
from experiment.threats.linf import Linf
from training.learner import Learner

EFFORT = Effort(steps=3, step_size=0.02)
DRAW = torch.Generator().manual_seed(0)
IMAGES = torch.rand(6, 3, 8, 8, generator=DRAW)
LABELS = torch.randint(0, 10, (6,), generator=DRAW)
SGD = {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4}
TRAINING = {"lr": 0.05, "optimizer": SGD, "crafting_batch_norm": "train"}
CRAFT, UPDATE = Backward(False, False, True, False), Backward(False, True, False, True)
REPLAY = Backward(False, True, True, True)
YOPO_PASS = [
    Backward(False, True, False, False),
    *[Backward(True, False, True, False)] * 3,
    Backward(True, True, False, False),
]
BACKWARDS = {
    "pgd": [CRAFT] * 3 + [UPDATE],
    "fast": [CRAFT] * 3 + [UPDATE],
    "n_fgsm": [CRAFT] * 3 + [UPDATE],
    "free": [REPLAY] * 3,
    "deat": [REPLAY] * 3,
    "yopo": (YOPO_PASS * 3)[:-1] + [Backward(True, True, False, True)],
}


def network():
    return models.build("small_cnn", classes=10, shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, seed=0).train()


def method_of(name):
    threat = Linf(0.1, torch.Generator().manual_seed(1))
    return methods.load(name)(threat, **method_facts.of(name).options)


def learner_of(net):
    return Learner(net, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


def benchmark(folder, content, *arguments):
    file = folder / "suite.yaml"
    file.write_text(yaml.safe_dump(content))
    training.main([str(file), "--threads", "1", "--repeats", "2", "--json", str(folder / "out.json"), *arguments])
    return json.loads((folder / "out.json").read_text())


@pytest.mark.parametrize("name", sorted(BACKWARDS))
def test_the_usual_loop_trains_the_weights_that_the_suite_trains(name):
    net, twin = network(), network()
    usual = UsualLoop(twin, method_of(name), EFFORT, TRAINING, iter([(IMAGES, LABELS)] * 2), torch.device("cpu"))
    method, learner = method_of(name), learner_of(net)
    for _ in range(2):
        learner.begin_batch(LABELS, lambda done: 0.05)
        method.train_batch(learner, batch_of(IMAGES, LABELS), EFFORT)
        usual.train(1)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[key], value, rtol=1e-3, atol=1e-5)


def test_crafting_in_evaluation_mode_leaves_the_usual_loop_s_network_in_training_mode():
    net = network()
    before = copy.deepcopy(net.state_dict())
    learner = UsualLearner(net, torch.optim.SGD(net.parameters(), lr=0.1), "eval")
    learner.craft(IMAGES)
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_the_usual_loop_tells_the_mean_loss_and_accuracy_of_the_minibatches():
    net = network()
    method = method_of("deat")
    expected = copy.deepcopy(net)(IMAGES + method.threat.random_start(IMAGES))
    again = method_of("deat")
    found = UsualLoop(net, again, Effort(1, 0.02), TRAINING, iter([(IMAGES, LABELS)]), torch.device("cpu")).train(1)
    accuracy = (expected.argmax(1) == LABELS).float().mean().item()
    assert found == pytest.approx((torch.nn.functional.cross_entropy(expected, LABELS).item(), accuracy), rel=1e-4)


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop_flip"])
def test_the_usual_loop_s_minibatches_are_the_training_images_cropped_and_flipped_as_the_suite_does(augmentation):
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    served, labels = next(loader(images, torch.arange(5), 16, augmentation, pin_memory=False))
    assert served.shape == (16, 3, 8, 8)
    for image, label in zip(served, labels, strict=True):
        padded = torch.nn.functional.pad(images[label], [0 if augmentation == "none" else 4] * 4) / 255
        windows = padded.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        flipped = windows.flip(-1) if augmentation == "crop_flip" else windows
        assert torch.isclose(torch.cat([windows, flipped]), image).flatten(1).all(1).any()


@pytest.mark.parametrize("name", sorted(BACKWARDS))
def test_the_bare_loop_makes_the_backwards_of_a_method(name):
    assert backwards(method_of(name), learner_of(network()), batch_of(IMAGES, LABELS), EFFORT) == BACKWARDS[name]


def test_a_magnitude_is_a_gradient_for_the_images_that_the_bare_loop_takes_too():
    net = network()
    learner = Learner(net, torch.optim.SGD(net.parameters(), lr=0.05), magnitude="update")
    assert backwards(method_of("pgd"), learner, batch_of(IMAGES, LABELS), EFFORT) == [CRAFT] * 3 + [REPLAY]


def test_the_bare_loop_descends_like_plain_pytorch():
    net, twin = network(), network()
    BareLoop(net, [CRAFT, UPDATE], bf16=False).train(IMAGES, LABELS, 2)
    optimizer = torch.optim.SGD(twin.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    for _ in range(2):
        twin(IMAGES)  # a crafting pass moves the statistics of batch norm and nothing else
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(twin(IMAGES), LABELS).backward()
        optimizer.step()
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[key])


@pytest.mark.slow
def test_the_command_measures_every_loop_and_counts_passes_and_operations(data, tmp_path, capsys):
    content = tiny.content(data, "pgd")
    content["variants"][0]["steps"] = {"rule": "constant", "steps": 2, "step_size": 0.02}
    rows = {row["loop"]: row for row in benchmark(tmp_path, content)["rows"]}
    assert list(rows) == ["suite", "again", "usual", "bare"]
    # Multiplications and additions of a forward; a backward costs as much for what went in, and as much for weights.
    first, others = 2 * 64 * 9 * 16, 2 * (16 * 9 * 16 * 32 + 4 * 9 * 32 * 64 + 256 * 10)
    crafting, updating = 2 * (first + others), 2 * first + 3 * others
    for row in rows.values():
        assert row["passes"] == 3 * row["minibatches"]
        assert row["flops"] == row["minibatches"] * row["batch_size"] * (2 * crafting + updating)
        assert len(row["seconds"]) == 2
        assert row["images_per_second"] == pytest.approx(row["passes_per_second"] * row["batch_size"] / 3)
    assert rows["usual"]["speedup_over_usual"] == 1
    assert 0 < rows["suite"]["data_share"] < 1
    shown = capsys.readouterr().out
    assert all(f"{row['images_per_second']:.4g}" in shown for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--variants", "nought"], "has no run 'digits/nought/seed0'"),
        (["--dataset", "cifar10"], "has no run 'cifar10/it/seed0'"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_sentence(data, tmp_path, arguments, sentence):
    with pytest.raises(SystemExit, match=sentence):
        benchmark(tmp_path, tiny.content(data), *arguments)


def test_without_the_prepared_images_nothing_is_timed(tmp_path):
    with pytest.raises(SystemExit, match="train.safetensors is missing; run snakemake"):
        benchmark(tmp_path, tiny.content(tmp_path / "empty"))


def test_an_optimizer_that_the_other_loops_do_not_have_is_refused(tmp_path, data):
    content = tiny.content(data, training={"optimizer": {"name": "adamw"}})
    with pytest.raises(SystemExit, match="it trains with adamw; the loops that training is compared with have sgd"):
        benchmark(tmp_path, content)
