"""What makes a search faster changes nothing that it finds: another form of the network, batches that fit, TF32."""

import pytest
import torch
from torch import nn

from evaluation import fast_inference
from evaluation.verify import attack
from experiment import models, precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHAPES = {"small_cnn": (1, 8, 8), "preact_resnet18": (3, 32, 32), "vgg16_bn": (3, 32, 32)}


def build(name, seed=0):
    """A network with batch norms that do something, frozen, in evaluation mode."""
    channels = SHAPES[name][0]
    network = models.build(name, classes=10, shape=SHAPES[name], mean=[0.4] * channels, std=[0.2] * channels, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.3, 0.3, generator=generator)
    return network.eval().requires_grad_(False)


def images_of(name, count, seed=0):
    return torch.rand(count, *SHAPES[name], generator=torch.Generator().manual_seed(seed))


def batch_norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", SHAPES)
def test_the_searched_network_is_the_same_function_with_fewer_batch_norms(name):
    network, images = build(name), images_of(name, 4)
    before = network(images)
    searched = fast_inference.searched(network, images)
    assert batch_norms(searched) < batch_norms(network)
    precise = network.double()(images.double())
    rounding = (before - precise).abs().max()
    assert (searched(images) - precise).abs().max() <= 10 * rounding + 1e-6


def test_the_network_itself_stays_as_it_was():
    network, images = build("vgg16_bn"), images_of("vgg16_bn", 4)
    state, logits = {key: value.clone() for key, value in network.state_dict().items()}, network(images)
    fast_inference.batch_size(network, images)
    searched = fast_inference.searched(network, images)
    assert searched is not network
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key])
        assert value.is_contiguous()
    assert torch.equal(network(images), logits)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(("name", "channels_last"), [("small_cnn", False), ("vgg16_bn", True)])
def test_weights_are_channels_last_where_images_are_large_enough_to_gain_by_it(name, channels_last):
    searched = fast_inference.searched(build(name), images_of(name, 1))
    weights = [module.weight for module in searched.modules() if isinstance(module, nn.Conv2d)][1:]
    assert {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights} == {channels_last}


class Of(nn.Module):
    """A network that is a function of the images: not what a tracer expects, but what somebody's network may do."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.flatten(1)[:, :4], x)


@pytest.mark.fault("input")
@pytest.mark.parametrize(
    "function",
    [
        lambda logits, x: logits if x.sum() > 0 else -logits,
        lambda logits, x: torch.stack([logits[image] for image in range(x.shape[0])]),
        lambda logits, x: logits * len(x),
        lambda logits, x: logits + float(x.mean()),
        lambda logits, x: torch.cat([*logits[:, None]]),
        lambda logits, x: logits * {torch.float32: 1}[x.dtype],
        lambda logits, x: logits + torch.tensor(x.tolist()).mean(),
        lambda logits, x: logits * (1 if isinstance(x, torch.fx.Proxy) else 2),
    ],
    ids=["branch", "range", "len", "float", "iteration", "dictionary", "tolist", "another function when traced"],
)
def test_a_network_that_cannot_be_traced_is_searched_as_it_is(function):
    network = Of(function)
    assert fast_inference.searched(network, images_of("small_cnn", 3)) is network


@pytest.mark.fault("input")
def test_a_network_with_a_loop_over_its_images_is_attacked():
    images = images_of("small_cnn", 5)
    network = Of(lambda logits, x: torch.stack([logits[image] for image in range(x.shape[0])]))
    settings = {"name": "pgd-3", "threat": {"norm": "linf", "eps": 0.5}, "step_size": 0.2, "restarts": 1}
    verdicts = attack(settings, network, images, network(images).argmax(1), seed=0)
    assert not verdicts.robust.all()


@pytest.mark.parametrize(("name", "largest"), [("small_cnn", 16 * 8 * 8), ("preact_resnet18", 64 * 32 * 32)])
def test_on_a_cpu_the_largest_activation_of_a_batch_fits_in_the_cache(name, largest):
    network, images = build(name), torch.zeros(1, *SHAPES[name]).expand(5000, *SHAPES[name])
    assert fast_inference.batch_size(network, images) == min(5000, fast_inference.CACHE // (4 * largest))
    assert fast_inference.batch_size(network, images[:3]) == 3


def test_there_is_always_a_batch(monkeypatch):
    monkeypatch.setattr(fast_inference, "CACHE", 1)
    assert fast_inference.batch_size(build("small_cnn"), images_of("small_cnn", 7)) == 1
    assert fast_inference.batch_size(build("small_cnn"), images_of("small_cnn", 0)) == 1


@pytest.mark.parametrize("name", ["pgd-5", "margin-5", "fgsm"])
def test_verdicts_do_not_depend_on_the_batch_size(monkeypatch, name):
    network, images = build("small_cnn").double(), images_of("small_cnn", 50).double()
    labels = network(images).argmax(1)
    settings = {"name": name, "threat": {"norm": "linf", "eps": 0.03}, "step_size": 0.01, "restarts": 2}
    whole = attack(settings, network, images, labels, seed=3)
    assert 5 < whole.robust.sum() < 45
    for batch_size in (1, 7, 49):
        monkeypatch.setattr(fast_inference, "batch_size", lambda *_, size=batch_size: size)
        parts = attack(settings, network, images, labels, seed=3)
        assert torch.equal(parts.robust, whole.robust)


# -- memory -----------------------------------------------------------------------------------------------------------


class Narrow(nn.Module):
    """Runs out of memory above so many images."""

    def __init__(self, network, most):
        super().__init__()
        self.network, self.most = network, most

    def forward(self, x):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.network(x)


def test_a_batch_that_memory_does_not_suffice_for_is_halved_until_it_does():
    tried = []

    def work(size):
        tried.append(size)
        if size > 13:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return f"done with {size}"

    assert fast_inference.fitting(work, 100) == "done with 12"
    assert tried == [100, 50, 25, 12]


def test_memory_that_does_not_suffice_for_one_image_is_an_error():
    tried = []

    def work(size):
        tried.append(size)
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        fast_inference.fitting(work, 5)
    assert tried == [5, 2, 1]


def test_little_memory_changes_no_verdict(monkeypatch):
    network, images = build("small_cnn").double(), images_of("small_cnn", 50).double()
    labels = network(images).argmax(1)
    settings = {"name": "pgd-5", "threat": {"norm": "linf", "eps": 0.03}, "step_size": 0.01, "restarts": 2}
    expected = attack(settings, network, images, labels, seed=3)
    monkeypatch.setattr(fast_inference, "searched", lambda network, images: Narrow(network, 20))
    assert torch.equal(attack(settings, network, images, labels, seed=3).robust, expected.robust)


# -- TF32 -------------------------------------------------------------------------------------------------------------


def allowed():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(params=["fp32", "tf32"])
def before(request):
    kept = allowed()
    precision.apply(request.param)
    yield allowed()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


def test_a_gpu_searches_in_tf32_and_no_longer_than_that(before):
    with fast_inference.tf32(GPU):
        assert allowed() == (True, True)
    assert allowed() == before
    with pytest.raises(KeyError), fast_inference.tf32(GPU):
        raise KeyError
    assert allowed() == before
    with fast_inference.tf32(CPU):
        assert allowed() == before


def test_successes_are_verified_and_images_attacked_again_outside_tf32(monkeypatch, before):
    network, images = build("small_cnn"), images_of("small_cnn", 20)
    labels = network(images).argmax(1)
    seen = []
    monkeypatch.setattr(fast_inference, "tf32", lambda device, real=fast_inference.tf32: real(GPU))

    class Noting(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name, self.network = name, network

        def forward(self, x):
            seen.append((self.name, *allowed()))
            return self.network(x) if self.name == "itself" else self.network(x).roll(1, 1)

    monkeypatch.setattr(fast_inference, "searched", lambda network, images: Noting("searched"))
    settings = {"name": "pgd-2", "threat": {"norm": "linf", "eps": 0.01}, "step_size": 0.004, "restarts": 1}
    attack(settings, Noting("itself"), images, labels, seed=0)
    assert set(seen) == {("searched", True, True), ("itself", *before)}
