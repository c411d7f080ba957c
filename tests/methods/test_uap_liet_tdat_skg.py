"""UAP, LIET, TDAT and SKG against naive implementations of their own; conventions are those of test_references.py."""

import math

import pytest
import torch
from reference import (
    BATCHES,
    EPOCHS,
    EPS,
    Reference,
    assert_agrees,
    assert_same_networks,
    clip_to_ball,
    clip_to_box,
    softmax,
    trained,
)

from experiment.effort import Effort
from methods import load

pytestmark = pytest.mark.usefixtures("float64")

ONE, TWO = Effort(1, EPS), Effort(2, 0.5 * EPS)
UAP = {"universal": "one", "smoothing": 0.4, "consistency": 10.0, "decay": 0.3}
LIET = {"label_weight": 0.4, "divergence": 100.0, "least_noise": 0.1, "most_noise": 0.5, "refresh": 20}
TDAT = {"scale": 0.6, "floor": 0.15, "distance": 0.65, "momentum": 0.0}
SKG = {"most": 0.9, "least": 0.3, "consistency": 1.0, "remap": False}


def to_targets(logits, targets):
    return -(targets * softmax(logits).log()).sum(1).mean()


def targets(labels, true):
    """`true` at each label, a number or one an image, and the rest in equal parts elsewhere."""
    rows = []
    for i, label in enumerate(labels.tolist()):
        weight = float(true) if not isinstance(true, list) else true[i]
        rows.append([weight if c == label else (1 - weight) / 9 for c in range(10)])
    return torch.tensor(rows, dtype=torch.float64)


class Family(Reference):
    """What the four share: steps from a start, whose first pass `update` may go back through, and one update."""

    def signs(self, *shape):
        return torch.where(self.uniform_noise(torch.empty(shape)) > 0, 1.0, -1.0)

    def shown(self, images):
        images = images.detach().requires_grad_()
        return images, self.network(images)

    def step(self, images, labels, start, effort, craft, update):
        """craft(logits) is ascended; update(first logits, logits' function) gives the loss.

        Returns the gradient at the start, of both losses, and delta.
        """
        delta = start
        for step in range(effort.steps):
            attacked, logits = self.shown(images + delta)
            craft(logits).backward(retain_graph=True)
            self.see("attack", attacked.grad)
            delta = clip_to_box(images, clip_to_ball(delta + effort.step_size * attacked.grad.sign()))
            if step == 0:
                before, first = logits, attacked
        self.network.zero_grad()
        self.loss, self.logits, attacked = update(before, delta)
        self.loss.backward()
        self.see("update", attacked.grad)
        self.note(labels)
        self.update()
        return first.grad, delta


def uap(effort, universal="one", smoothing=0.4, consistency=10.0, decay=0.3):
    """Pan et al., 2024, as in fzjcdt/fgsm_uap: perturbations of 1.25 eps, one at a time."""
    reference, head = Family(), {}
    count = {"one": 1, "class": 10, "cluster": 50}[universal]
    if universal == "cluster":
        inputs = reference.network.classifier.in_features
        shapes = {"w1": (50, inputs), "b1": (50,), "w2": (10, 50), "b2": (10,)}
        for name, shape in shapes.items():
            bound = (inputs if name.endswith("1") else 50) ** -0.5
            head[name] = reference.uniform_noise(torch.empty(shape), bound).requires_grad_()
    moments = {name: [torch.zeros_like(w), torch.zeros_like(w)] for name, w in head.items()}
    perturbations = 1.25 * EPS * reference.signs(count, 3, 8, 8)
    momentum = torch.zeros(count, 3, 8, 8)

    def cluster(images, labels):
        with torch.no_grad():
            features = reference.network.features(reference.network.first_layer(images))
        scores = features @ head["w1"].T + head["b1"]
        logits = torch.where(scores > 0, scores, 0.0) @ head["w2"].T + head["b2"]
        to_targets(logits, targets(labels, 0.9 * smooth + 0.1)).backward()
        with torch.no_grad():
            for name, w in head.items():
                first, second = moments[name]
                first.mul_(0.9).add_(0.1 * w.grad)
                second.mul_(0.999).add_(0.001 * w.grad**2)
                t = reference.minibatch + 1
                w -= 0.001 * (first / (1 - 0.9**t)) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
                w.grad = None
        return [int(row.argmax()) for row in scores]

    smooth = 1 - smoothing  # and a tenth of the rest

    def train_minibatch(images, labels):
        noise = torch.zeros_like(images)
        which = [0] * len(labels) if universal == "one" else labels.tolist()
        if universal == "cluster":
            noise = clip_to_box(images, reference.uniform_noise(images))
            which = cluster(images + noise, labels)
        start = clip_to_box(
            images, clip_to_ball(torch.stack([noise[i] + perturbations[k] for i, k in enumerate(which)]))
        )
        smoothed = targets(labels, smooth + smoothing / 10)

        def update(before, delta):
            attacked, logits = reference.shown(images + delta)
            return to_targets(logits, smoothed) + consistency * (logits - before).pow(2).mean(), logits, attacked

        gradient, _ = reference.step(images, labels, start, effort, lambda z: to_targets(z, smoothed), update)
        gradient = gradient / gradient.abs().sum()
        for k in set(which):
            of_k = torch.stack([gradient[i] for i in range(len(which)) if which[i] == k]).mean(0)
            momentum[k] = of_k + decay * momentum[k]
            moved = perturbations[k] + 1.25 * EPS * momentum[k].sign()
            perturbations[k] = moved.clamp(-1.25 * EPS, 1.25 * EPS)

    return reference.train(train_minibatch)


def liet(effort, label_weight=0.4, divergence=100.0, least_noise=0.1, most_noise=0.5, refresh=20):
    """Pan et al., 2025, as in fzjcdt/LIET."""
    reference, kept = Family(), {}
    network, generator = reference.network, reference.noise_generator

    def cross_entropy(logits, labels):
        rows = []
        drawn = torch.rand(logits.shape, generator=generator)
        for row, label in zip(drawn, labels.tolist(), strict=True):
            rest = sum(float(value) for c, value in enumerate(row) if c != label)
            weights = [(1 - label_weight) * float(value) / rest for value in row]
            weights[label] = label_weight
            rows.append(weights)
        return to_targets(logits, torch.tensor(rows))

    def train_minibatch(images, labels):
        if reference.minibatch % 2 % refresh == 0:  # there are two in an epoch
            network.eval()
            grey, logits = reference.shown(torch.full((10, 3, 8, 8), 0.5))
            cross_entropy(logits, torch.arange(10)).backward()
            kept["indicative"] = EPS * grey.grad.sign()
            network.train()
        delta = torch.stack([kept["indicative"][label] for label in labels.tolist()])
        uniform, noise = torch.rand(images.shape, generator=generator), reference.uniform_noise(images)
        mask = uniform < least_noise + (most_noise - least_noise) * torch.rand((), generator=generator).item()
        minus = torch.rand((), generator=generator).item() < 0.5
        delta[mask] = noise[mask]
        start = clip_to_box(images, -delta if minus else delta)

        def update(before, delta):
            attacked, logits = reference.shown(images + delta)
            p, q = softmax(before), softmax(logits)
            apart = sum((r * (r / ((p + q) / 2)).log()).sum(1).mean() for r in (p, q)) / 2
            weight = divergence * (1 + reference.minibatch // 2) / EPOCHS
            return cross_entropy(logits, labels) + weight * apart, logits, attacked

        reference.step(images, labels, start, effort, lambda z: cross_entropy(z, labels), update)

    return reference.train(train_minibatch)


def tdat(effort, scale=0.6, floor=0.15, distance=0.65, momentum=0.0):
    """Tong et al., 2024, as in bookman233/TDAT but for short minibatches; momentum as in the paper."""
    reference = Family()
    carried = EPS * reference.signs(BATCHES[0], 3, 8, 8)

    def train_minibatch(images, labels):
        count, gamma = len(images), max(scale * math.tan(1 - (reference.minibatch // 2) / EPOCHS), floor)
        start = carried[:count].clone()

        def update(before, delta):
            attacked, logits = reference.shown(images + delta)
            unsure = torch.tanh(1.0000001 - torch.stack([p[y] for p, y in zip(softmax(before), labels, strict=True)]))
            apart = ((before - logits).pow(2).sum(1) * unsure).sum() / count
            smoothed = torch.nn.CrossEntropyLoss(label_smoothing=1 - gamma)(logits, labels)
            return smoothed + distance * apart, logits, attacked

        relaxed = targets(labels, gamma)
        _, delta = reference.step(images, labels, start, effort, lambda z: to_targets(z, relaxed), update)
        carried[:count] = momentum * start + (1 - momentum) * delta

    return reference.train(train_minibatch)


def skg(effort, most=0.9, least=0.3, consistency=1.0, remap=False):
    """Jiang et al., 2025, as in kiasgalaxy/SKG-FAT but for the first epoch and for short minibatches."""
    reference = Family()
    carried = EPS * reference.signs(BATCHES[0], 3, 8, 8)
    known = {"weights": [most] * 10, "right": [0] * 10, "seen": 0}

    def mapped(accuracies):
        return [min(max(abs(math.log(a)) if a else math.inf, least), most) for a in accuracies]

    def train_minibatch(images, labels):
        count = len(images)
        if reference.minibatch == 2:  # an epoch begins
            accuracies = [10 * right / known["seen"] for right in known["right"]]
            known.update(weights=accuracies if remap else mapped(accuracies), right=[0] * 10, seen=0)
        if remap and reference.minibatch >= 2:
            known["weights"] = mapped(known["weights"])
        q = known["weights"]
        relaxed = targets(labels, [q[y] for y in labels.tolist()])

        def update(before, delta):
            _, clean = reference.shown(images)
            attacked, logits = reference.shown(images + delta)
            loss = to_targets(logits, relaxed)
            for c in set(labels.tolist()):
                of_class = [i for i in range(count) if labels[i] == c]
                loss = loss + consistency * q[c] * (clean[of_class] - logits[of_class]).pow(2).mean()
            for row, label in zip(clean, labels.tolist(), strict=True):
                known["right"][label] += int(row.argmax()) == label
            known["seen"] += count
            return loss, logits, attacked

        start = carried[:count].clone()
        _, carried[:count] = reference.step(images, labels, start, effort, lambda z: to_targets(z, relaxed), update)

    return reference.train(train_minibatch)


REFERENCES = {"uap": (uap, UAP), "liet": (liet, LIET), "tdat": (tdat, TDAT), "skg": (skg, SKG)}


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *((method, {}) for method in REFERENCES),
        ("uap", {"universal": "class", "smoothing": 0.1, "consistency": 3.0, "decay": 0.9}),
        ("uap", {"universal": "cluster"}),
        ("liet", {"label_weight": 0.9, "divergence": 7.0, "least_noise": 0.4, "most_noise": 1.0, "refresh": 1}),
        ("tdat", {"scale": 0.3, "floor": 0.25, "distance": 3.0, "momentum": 0.75}),
        ("skg", {"most": 0.6, "least": 0.4, "consistency": 3.0}),
        ("skg", {"remap": True}),
    ],
)
@pytest.mark.parametrize(("effort", "magnitude"), [(ONE, "update"), (TWO, "attack")])
def test_it_trains_as_its_authors_do(method, changes, effort, magnitude):
    reference, defaults = REFERENCES[method]
    options = defaults | changes
    assert_agrees(reference(effort, **options), method, effort, magnitude, **options)


# -- what they come down to -------------------------------------------------------------------------------------------


def test_uap_without_a_perturbation_is_fgsm_that_is_held_to_the_clean_logits(monkeypatch):
    none = {"signs": torch.zeros(1, 3, 8, 8), "momentum": torch.zeros(1, 3, 8, 8)}
    monkeypatch.setattr(load("uap"), "begin", lambda self, split: self.state.update(none))
    monkeypatch.setattr(load("uap"), "keep", lambda *_: None)
    reference = Family()

    def train_minibatch(images, labels):
        smoothed = targets(labels, 0.64)

        def update(before, delta):
            attacked, logits = reference.shown(images + delta)
            return to_targets(logits, smoothed) + 10 * (logits - before).pow(2).mean(), logits, attacked

        reference.step(images, labels, torch.zeros_like(images), ONE, lambda z: to_targets(z, smoothed), update)

    assert_agrees(reference.train(train_minibatch), "uap", ONE, **UAP)


def test_liet_whose_starts_are_all_noise_is_fast_with_its_cross_entropy(monkeypatch):
    monkeypatch.setattr(load("liet"), "drawn_cross_entropy", lambda self, *of: torch.nn.functional.cross_entropy(*of))
    monkeypatch.setattr(load("liet"), "uniform", lambda self, shape, like: torch.full(shape, 0.5))  # of the sign: plus
    network, statistics = trained(
        "liet", ONE, "update", **LIET | {"divergence": 0.0, "least_noise": 1.0, "most_noise": 1.0}
    )
    expected, expected_statistics = trained("fast", ONE, "update", start="random")
    assert_same_networks(network, expected)
    assert statistics == expected_statistics
