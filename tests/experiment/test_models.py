import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.vgg import cfgs, make_layers

from experiment import models
from experiment.errors import UserError
from experiment.models.activations import SmoothReLU

DIGITS, FASHION, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
PARAMETERS = {
    "preact_resnet18": 11_172_170,
    "resnet18": 11_173_962,
    "vgg16_bn": 14_728_266,
    "wide_resnet34_10": 46_160_474,
}
EVERY_NETWORK = models.names()
SHAPES = {name: [CIFAR] if name == "vgg16_bn" else [DIGITS, FASHION, CIFAR] for name in EVERY_NETWORK}
LAYERS = (nn.Conv2d, nn.BatchNorm2d)
SMOOTH = [activation for activation in models.ACTIVATIONS if activation != "relu"]

every_network = pytest.mark.parametrize(("name", "shape"), [(name, shapes[0]) for name, shapes in SHAPES.items()])
every_shape = pytest.mark.parametrize(("name", "shape"), [(name, s) for name, shapes in SHAPES.items() for s in shapes])


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)


def build(name, shape=CIFAR, classes=10, activation="relu", seed=0, **parameters):
    mean, std = MEAN[: shape[0]], STD[: shape[0]]
    given = {"classes": classes, "shape": shape, "mean": mean, "std": std, "activation": activation, "seed": seed}
    return models.build(name, **given, **parameters)


def assert_same_logits(logits, expected):
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
@every_shape
def test_images_become_one_logit_a_class_and_features_that_the_classifier_takes(name, shape):
    network, x = build(name, shape, classes=7), torch.rand(2, *shape)
    with torch.no_grad():
        logits, hidden = network(x), network.first_layer(x)
        features = network.features(hidden)
        assert logits.shape == (2, 7)
        assert features.shape == (2, network.classifier.in_features)
        assert torch.equal(logits, network.rest(hidden))
        assert torch.equal(logits, network.classifier(features))


@every_network
def test_the_first_layer_is_the_normalisation_and_one_convolution(name, shape):
    network, x = build(name, shape), torch.rand(2, *shape)
    normalised = x.clone()
    for image in range(2):
        for channel, (mean, std) in enumerate(zip(MEAN[: shape[0]], STD[: shape[0]], strict=True)):
            normalised[image, channel] = (x[image, channel] - mean) / std
    (convolution,) = [module for module in network.first_layer.modules() if isinstance(module, nn.Conv2d)]
    expected = F.conv2d(normalised, convolution.weight, convolution.bias, padding=1)
    torch.testing.assert_close(network.first_layer(x), expected)
    assert sum(p.numel() for p in network.first_layer.parameters()) == sum(p.numel() for p in convolution.parameters())


def test_the_gradient_times_std_is_the_gradient_of_the_normalised_image():
    network, x = build("small_cnn").eval(), torch.rand(2, *CIFAR, requires_grad=True)
    normalise, convolution = network.first_layer
    normalised = normalise(x).detach().requires_grad_()
    (of_pixels,) = torch.autograd.grad(network(x).logsumexp(1).sum(), x)
    (of_normalised,) = torch.autograd.grad(network.rest(convolution(normalised)).logsumexp(1).sum(), normalised)
    assert network.std.shape == (1, 3, 1, 1)
    torch.testing.assert_close(of_pixels * network.std, of_normalised)


@every_network
def test_initial_weights_depend_on_the_seed_and_not_on_the_callers_random_state(name, shape):
    first = build(name, shape, seed=3)
    torch.rand(5)
    assert same_weights(first, build(name, shape, seed=3))
    other = build(name, shape, seed=4)
    assert not torch.equal(first.first_layer[1].weight, other.first_layer[1].weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_building_leaves_every_random_state_of_the_caller_alone(monkeypatch):
    seeded_gpus = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded_gpus.append)
    before = torch.get_rng_state()
    build("small_cnn", seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert seeded_gpus == []


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameter_counts_are_those_of_the_literature(name, parameters):
    assert sum(p.numel() for p in build(name).parameters()) == parameters


WIDTHS = {"preact_resnet18": 64, "resnet18": 64, "small_cnn": 16, "vgg16_bn": 64}


@pytest.mark.parametrize(("name", "default"), WIDTHS.items())
def test_a_network_of_another_width_has_that_many_times_the_channels_everywhere(name, default):
    usual, narrow = build(name), build(name, width=default // 4)
    channels = [[m.out_channels for m in of.modules() if isinstance(m, nn.Conv2d)] for of in (usual, narrow)]
    assert channels[0] == [4 * number for number in channels[1]]
    assert narrow(torch.rand(2, *CIFAR)).shape == (2, 10)
    assert same_weights(usual, build(name, width=default))


def test_a_stride_of_the_resnet_leaves_its_weights_and_shrinks_its_maps():
    usual, strided = build("preact_resnet18", width=4), build("preact_resnet18", width=4, stride=2)
    assert same_weights(usual, strided)
    x = torch.rand(2, *CIFAR)
    torch.testing.assert_close(strided.first_layer(x), usual.first_layer(x)[:, :, ::2, ::2])
    assert strided(x).shape == (2, 10)


def test_vgg_computes_what_torchvisions_vgg16_bn_computes():
    network, reference = build("vgg16_bn"), make_layers(cfgs["D"], batch_norm=True)
    ours = [network.first_layer[1], *(module for module in network.body if isinstance(module, LAYERS))]
    theirs = [module for module in reference if isinstance(module, LAYERS)]
    for one, other in zip(ours, theirs, strict=True):
        other.load_state_dict(one.state_dict())
    x = torch.rand(2, *CIFAR)
    with torch.no_grad():
        normalised = network.first_layer[0](x)
        assert_same_logits(network(x), network.classifier(reference(normalised).flatten(1)))


def test_wide_resnet_convolutions_start_with_variance_two_over_fan_out():
    for module in build("wide_resnet34_10").modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.var().item() * fan_out == pytest.approx(2, rel=0.1)


class Operations(TorchDispatchMode):
    """The names of all tensor operations that run inside it, backward passes included."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.seen.add(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


def operations_of(network, shape):
    with Operations() as operations:
        network(torch.rand(2, *shape)).sum().backward()
    return operations.seen


RELU = {"relu", "clamp_min", "threshold_backward"}  # what F.relu and its gradient run as


@pytest.mark.slow
@every_network
def test_a_smooth_activation_replaces_every_relu_in_forward_and_backward(name, shape):
    assert operations_of(build(name, shape), shape) & RELU
    smooth = build(name, shape, activation="silu")
    operations = operations_of(smooth, shape)
    assert {"silu", "silu_backward"} <= operations
    assert not operations & RELU
    assert not any(isinstance(module, nn.ReLU) for module in smooth.modules())


@pytest.mark.parametrize("activation", SMOOTH)
def test_the_activation_changes_the_logits_and_not_the_initial_weights(activation):
    relu, other = build("preact_resnet18", DIGITS), build("preact_resnet18", DIGITS, activation=activation)
    x = torch.rand(2, *DIGITS)
    learned = [weight for name, weight in other.named_parameters() if not name.endswith(".s")]  # smoothrelu's
    assert all(torch.equal(a, b) for a, b in zip(relu.parameters(), learned, strict=True))
    assert not torch.allclose(relu(x), other(x), atol=1e-3)


@every_network
def test_every_parameter_and_the_image_get_a_gradient(name, shape):
    network, x = build(name, shape), torch.rand(2, *shape, requires_grad=True)
    F.cross_entropy(network(x), torch.tensor([0, 1])).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    assert x.grad.abs().sum() > 0


@every_network
def test_in_evaluation_mode_an_image_is_classified_whatever_its_neighbours(name, shape):
    network = build(name, shape).eval()
    image, others = torch.rand(1, *shape), torch.rand(2, *shape)
    with torch.no_grad():
        alone, accompanied = network(image), network(torch.cat([others, image]))[2:]
    assert_same_logits(alone, accompanied)


@every_network
def test_channels_last_gives_the_same_logits(name, shape):
    network, x = build(name, shape).eval(), torch.rand(2, *shape)
    with torch.no_grad():
        expected = network(x)
        network.to(memory_format=torch.channels_last)
        logits = network(x.to(memory_format=torch.channels_last))
    assert_same_logits(logits, expected)


@pytest.mark.slow
@every_network
def test_weights_and_statistics_survive_a_safetensors_file(name, shape, tmp_path):
    network, file = build(name, shape), tmp_path / "model.safetensors"
    network(torch.rand(2, *shape))  # one forward in training mode moves the batch norm statistics
    save_file(network.state_dict(), file)
    restored = build(name, shape, seed=1)
    restored.load_state_dict(load_file(file))
    file.unlink()  # pytest keeps its folders, and the largest of these files has 185 MB
    stored = network.state_dict()
    assert all(torch.equal(value, stored[key]) for key, value in restored.state_dict().items())


@pytest.mark.parametrize("name", ["unheard_of", "network", "../errors"])
def test_an_unknown_network_is_refused_with_the_known_ones(name):
    with pytest.raises(UserError, match=f"{name}.*preact_resnet18.*small_cnn"):
        build(name)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="Tanh.*relu.*silu.*gelu.*elu.*softplus"):
        build("small_cnn", activation="Tanh")


@pytest.mark.parametrize("shape", [DIGITS, FASHION])
def test_vgg_refuses_images_that_its_poolings_would_use_up(shape):
    with pytest.raises(UserError, match=f"32x32.*{shape[1]}x{shape[2]}"):
        build("vgg16_bn", shape)


def test_vgg_takes_images_larger_than_cifars():
    assert build("vgg16_bn", (3, 32, 64))(torch.rand(2, 3, 32, 64)).shape == (2, 10)


LINEAR = """
from torch import nn
from experiment.models.network import Network

class Linear(Network):
    def __init__(self, *, classes, shape, mean, std, activation):
        super().__init__(nn.Conv2d(shape[0], 4, 1), nn.Flatten(), nn.Linear(4 * 64, classes), mean=mean, std=std)
"""


def test_an_architecture_is_found_by_its_file_alone(tmp_path, monkeypatch):
    (tmp_path / "linear.py").write_text(LINEAR)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    assert models.names() == tuple(sorted([*EVERY_NETWORK, "linear"]))
    assert build("linear", DIGITS)(torch.rand(2, *DIGITS)).shape == (2, 10)


@pytest.mark.parametrize("source", ["import torch", LINEAR + "class Second(Linear): pass"])
def test_a_file_without_exactly_one_network_is_refused(tmp_path, monkeypatch, source):
    name = f"file_of_{len(source)}_characters"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    with pytest.raises(UserError, match=f"{name}.py defines . subclasses of Network.*; it must define exactly one"):
        build(name)


def test_the_names_are_known_without_importing_torch():
    program = "import sys; from experiment import models; models.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_smooth_relu_is_the_authors_formula_with_a_learned_scale_for_each_layer():
    """x - log(1 + b x) / b above 0, 0 below, b = s^2; its slope is 0 at 0, and b x / (1 + b x) above."""
    x = torch.tensor([-2.0, -1e-3, 0.0, 1e-3, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    smooth = SmoothReLU().double()
    y = smooth(x)
    b = 400.0
    expected = [0.0 if v <= 0 else v - math.log(1 + b * v) / b for v in x.tolist()]
    torch.testing.assert_close(y.detach(), torch.tensor(expected, dtype=torch.float64))
    slope, scale = torch.autograd.grad(y.sum(), [x, smooth.s])
    expected = [0.0 if v <= 0 else b * v / (1 + b * v) for v in x.tolist()]
    torch.testing.assert_close(slope, torch.tensor(expected, dtype=torch.float64))
    assert scale.item() != 0
    layers = [m for m in build("preact_resnet18", DIGITS, activation="smoothrelu").modules() if type(m) is SmoothReLU]
    assert len(layers) == 17
