"""Runs of a fraction of a second on the digits, for tests of what happens around training."""

import json
import os
import random
import signal
import sys
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from session import variants_of

from experiment import method_facts, models
from experiment.data import dataset, prepare
from experiment.suite import ROOT, Suite
from methods import load
from training import run as training_run
from training.counts import FlopCounter
from training.teacher import Teacher

EAGER = {"every": {"d": 1}, "accuracy": {"threshold": 0.01}, "mplus": {"gamma": 0.5}, "mplus-2021": {"gamma": 0.5}}
MILD = {"llr": {"weight": 1.0}}  # its published lambda is for minibatches of 128 and makes it diverge here
ROOMS = tuple(f"{ROOT / room}{os.sep}" for room in ("experiment", "steps", "methods", "training"))


def content(data_dir, method="pgd", rule="constant", options=None, **changes):
    """A suite with one run, digits/it/seed0: 3 minibatches an epoch, the last one short, and steps that grow soon."""
    training = {
        **{"epochs": 4, "batch_size": 16, "lr": 0.05, "schedule": {"milestones": [0.5]}},
        **{"validation_images": 20, "validation_steps": 1, "max_train_images": 40},
    }
    steps = {"rule": rule, **EAGER.get(rule, {})}
    variant = {"label": "it", "method": method, "steps": steps, "options": MILD.get(method, {}) | (options or {})}
    return {
        **{"suite": "tiny", "datasets": ["digits"], "data_dir": str(data_dir), "checkpoint_seconds": 1e-9},
        **{
            "network": {"name": "small_cnn"},
            "threat": {"eps": 0.1},
            "training": training | changes.pop("training", {}),
        },
        **{"evaluation": {"max_test_images": 24, "attacks": ["clean", "pgd-3"]}, "seeds": [0]},
        "variants": variants_of(variant),
        **changes,
    }


def growing(method):
    """The rule under which its steps grow, or the one that it has."""
    return "mplus" if "mplus" in method_facts.of(method).rules else "constant"


def teacher_of(spec, device="cpu"):
    """An untrained network, which is as good as any to learn from, for a method that needs one."""
    if "teacher" not in spec:
        return None
    network = models.of_run(spec["teacher"], dataset(spec["dataset"])).to(device).eval().requires_grad_(False)
    return Teacher(network, {"variant": "teacher", "weights_sha256": "0" * 64})


def suite(*arguments, **changes):
    return Suite.from_mapping(content(*arguments, **changes))


def train(suite, results):
    """Train the suite's only run, after its teacher if it has one; returns the folder of its files."""
    run, *teachers = suite.runs()
    for one in (*teachers, run):
        folder = Path(results) / suite.name / one.folder
        folder.mkdir(parents=True, exist_ok=True)
        if one is run or not (folder / "train.json").exists():
            training_run.train(suite, one, folder)
    return folder


def prepared_digits(folder):
    prepare("digits", folder)
    return folder


def record(folder):
    return json.loads((folder / "train.json").read_text())


def timeless(folder):
    """Everything that a run leaves but times, memory and the count of its parts."""
    train = record(folder)
    measured = ("seconds", "cpu_seconds", "others_cores", "usable_cores", "cores_beside", "epoch_spread", "disturbed")
    for key in (*measured, "images_per_second", "warmup_seconds", "peak_memory_bytes", "parts"):
        del train["cost"][key]
    for key in ("seconds", "disturbed") if "teacher" in train else ():
        del train["teacher"]["cost"][key]
    for key in ("started", "finished"):
        del train["provenance"][key]
    rows = [line.split(",") for line in (folder / "epochs.csv").read_text().splitlines()]
    assert rows[0][1:3] == ["seconds", "cpu_seconds"]
    epochs = [row[:1] + row[3:] for row in rows]
    return {"record": train, "epochs": epochs, "weights": (folder / "model.safetensors").read_bytes()}


def plain(tree):
    """A trainer's state with lists for tensors, which compare by ==."""
    if isinstance(tree, torch.Tensor):
        return tree.tolist()
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    return [plain(item) for item in tree] if isinstance(tree, (list, tuple)) else tree


def after(minibatches, event):
    """A `methods.load` whose methods call `event(learner)` once so many minibatches have been trained."""

    def loaded(name):
        class Method(load(name)):
            trained = 0

            def train_batch(self, learner, batch, effort):
                super().train_batch(learner, batch, effort)
                if learner.last_rate > 0:  # in a rehearsal, of which nothing is left, it is 0
                    self.trained += 1
                    if self.trained == minibatches:
                        event(learner)

        return Method

    return loaded


@contextmanager
def at_line(number, stop):
    """Call `stop` when the project's code is about to execute its `number`-th line; yields the count so far."""
    lines = [0]

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(ROOMS) or frame.f_code is FlopCounter.__torch_dispatch__.__code__:
            return None  # the counter runs its lines for each operation: they would be nearly all there are
        if event == "line":
            lines[0] += 1
            if lines[0] == number:
                stop(frame)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)
        torch.set_grad_enabled(True)  # an exception out of the tracer can keep `with torch.no_grad()` from ending


def main(suite_file, results, seed, kills):
    """Train the suite's run in child processes; all but the last of `kills` + 1 of them are killed with SIGKILL.

    A child dies at a random line, after a random time or, every third one, in the middle of writing a file. Prints
    what was left of the run at each death. Started as a process of its own, since autograd refuses to work in a fork
    of a process in which it has worked.
    """
    draw, left = random.Random(seed), []
    (run,) = Suite.load(suite_file).runs()
    for number in range(int(kills) + 1):
        child = os.fork()
        if child == 0:
            dying = DEATHS[number % 3] if number < int(kills) else nullcontext
            with dying(draw):
                training_run.main([suite_file, run.folder, "--results", results, "--threads", "1"])
            os._exit(0)
        draw.random()
        _, status = os.waitpid(child, 0)
        left.append(signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status)
    print(json.dumps(left))


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def at_a_random_line(draw):
    return at_line(draw.randrange(1000, 3000), die)


@contextmanager
def after_a_random_time(draw):
    threading.Timer(draw.uniform(0.05, 0.15), die).start()
    yield


@contextmanager
def while_writing(draw):
    left = draw.randrange(2, 5)

    def replace(source, target):
        nonlocal left
        left -= 1
        if left == 0:
            os.truncate(source, draw.randrange(1000))  # what a write that was cut off leaves
            die()
        original(source, target)

    original, os.replace = os.replace, replace
    yield


DEATHS = (at_a_random_line, after_a_random_time, while_writing)

if __name__ == "__main__":
    main(*sys.argv[1:])
