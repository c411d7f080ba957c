"""The training loop, the same for every method and steps rule."""

import copy
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import steps
from experiment import models, plugins, precision, provenance
from experiment.datasets.dataset import Dataset
from experiment.errors import UserError
from experiment.fingerprint import fingerprint
from methods import Method, Position, Split, load
from training import checkpoint, epoch_rows
from training.averaging import WeightAverage
from training.batches import Batches, seeded
from training.clock import Clock
from training.collapse import CollapseDetector
from training.counts import Spent, ordinary_flops
from training.cuda_graphs import CudaGraphs, Minibatches
from training.epoch_rows import diverged, finite
from training.learner import Learner
from training.teacher import Teacher
from training.validation import Accuracies, validate

# Streams of random numbers beside those of the minibatches, whose second number is the epoch and never as high.
NOISE, VALIDATION = 2**32 - 1, 2**32 - 2

COUNTED_IMAGES = 2  # of an ordinary epoch: batch norm takes no fewer, and operations are proportional to them


class Trainer:
    """Trains one run and can be interrupted at any moment.

    spec: a resolved run (experiment.suite.Run.spec); dataset: what is known of its images; split: (train images, train
    labels, validation images, validation labels) as uint8 and int64 tensors; resume: the folder that checkpoints go to
    every `checkpoint_seconds`; log: called with a line of text after every epoch; teacher: for a method that needs one;
    recorder: given the device and the generator of noise, what records minibatches (training.cuda_graphs), or None.
    A checkpoint that is damaged, or was made by other code or hardware or for another spec, is not gone on from.
    """

    def __init__(
        self,
        spec: dict,
        dataset: Dataset,
        split: tuple[Tensor, ...],
        device: torch.device,
        resume: Path,
        checkpoint_seconds: float,
        log=print,
        teacher: Teacher | None = None,
        recorder=lambda device, generator: CudaGraphs(device, generator) if device.type == "cuda" else None,
    ):
        training, eps, seed = spec["training"], spec["threat"]["eps"], spec["seed"]
        self.spec, self.device, self._resume, self._log = spec, device, resume, log
        self._checkpoint_seconds = checkpoint_seconds
        train_images, train_labels, self._val_images, self._val_labels = (tensor.to(device) for tensor in split)
        self.batches = Batches(train_images, train_labels, training["batch_size"], seed, dataset.augmentation)
        self._noise = seeded(device, seed, NOISE)
        self.rule = plugins.of_spec("steps", spec["steps"], eps=eps, epochs=training["epochs"])
        threat = plugins.of_spec("threat", spec["threat"], generator=self._noise)
        self.method = load(spec["method"])(threat, label_smoothing=training["label_smoothing"], **spec["options"])
        # Channels last is what convolutions are fastest in, on either device.
        network = models.of_run(spec, dataset).to(device, memory_format=torch.channels_last)
        self.precision = precision.resolve(training["precision"], device)
        precision.apply(self.precision)
        few = train_images[:COUNTED_IMAGES].float().div_(255)
        self._ordinary_epoch = ordinary_flops(copy.deepcopy(network), few) / len(few) * len(train_images)
        torch.backends.cudnn.benchmark = device.type == "cuda"  # kernels are chosen by timing them, while warming up
        optimizer = plugins.of_spec("optimizer", training["optimizer"]).build(network.parameters(), training["lr"])
        self._schedule = plugins.of_spec("schedule", training["schedule"])
        averaging = training["weight_averaging"] or ({} if self.method.averages_weights else None)
        self.learner = Learner(
            network,
            optimizer,
            magnitude=self.rule.magnitude_of,
            crafting_batch_norm=training["crafting_batch_norm"],
            weight_perturbation=training["weight_perturbation"],
            average=None if averaging is None else WeightAverage(network, **averaging),
            gradient_bits=training["gradient_bits"],
            generator=self._noise,
            bf16=self.precision == "bf16",
        )
        self.method.teacher = teacher and teacher.network
        self.method.extra = self.method.modules(network)
        self.method.begin(Split(len(train_images), tuple(train_images.shape[1:]), dataset.classes, device))
        if kept := sum(tensor.nbytes for tensor in self.method.state.values()):
            log(f"the method keeps {kept / 2**20:,.0f} MiB for the training images, in memory and in checkpoints")
        self._scheduled: dict[str, Tensor] = {}  # the method's schedule, where recordings read it
        self.clock = Clock(device)
        self.watch = CollapseDetector(guessing=1 / dataset.classes)
        self.rows: list[dict] = []  # one an epoch, the columns of epochs.csv
        self.best: dict | None = None  # epoch, PGD accuracy and weights of the best checkpoint so far
        self.status, self.status_epoch, self.status_reason = "ok", None, None
        self.parts, self.started = 1, provenance.now()
        self.starts_anew: str | None = None  # why, where there is a checkpoint that is not gone on from
        of_teacher = teacher and teacher.weights_sha256
        self._identity = {"spec": spec, "data": dataset.sha256.get("train"), "teacher": of_teacher}
        self.made_of = provenance.made_of("training", provenance.named_by_run(spec))
        self.made_of |= {"dataset": provenance.facts_sha256(dataset)}
        self._identity |= fingerprint(device, self.precision, self.made_of)
        self._epoch = self._batch = 0
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._at_epoch_start = (0.0, 0.0, Spent().as_dict())
        self._minibatches = Minibatches(
            *(self.learner, self.method, self._noise, self._sums),
            cycles_momentum=self._schedule.cycles_momentum,
            recorder=recorder(device, self._noise),
            memory=self.clock.memory,
            log=log,
        )
        self._load()

    def train(self) -> None:
        """Train to the end, or until the loss is no longer finite."""
        self.learner.network.train()
        saved, interval = time.monotonic(), self._checkpoint_seconds
        while self._epoch < self.spec["training"]["epochs"] and self.status != "diverged":
            effort = self.rule.effort_for(self._epoch)
            self.clock.start()
            if self._batch == 0:
                self._hook("begin_epoch", self.learner, self._position)
            for batch in self.batches.epoch(self._epoch, self._batch):
                batch = replace(batch, scalars=self._scalars())
                self._hook("before_batch", self.learner, batch, self._position)
                if self._minibatches.to_be_prepared(batch, effort):
                    with self.clock.warming_up():
                        self._minibatches.prepare(batch, effort)
                self._train_batch(batch, effort)
                if time.monotonic() - saved > interval:
                    self.clock.stop()
                    began = time.monotonic()
                    self._save()
                    saved = time.monotonic()
                    interval = checkpoint.interval(self._checkpoint_seconds, saved - began)
                    self.clock.start()
            self.clock.stop()
            self._end_epoch(effort)
        if self.status == "ok" and (found := self.watch.never_robust()):
            self.status, (self.status_epoch, self.status_reason) = "collapsed", found

    @property
    def weights(self) -> tuple[int | None, dict[str, Tensor]]:
        """Epoch and weights of the checkpoint that the protocol evaluates."""
        last = len(self.rows) - 1 if self.rows and self.status != "diverged" else None
        if self.spec["training"]["checkpoint"] == "last" or self.best is None:
            return last, self.evaluated.state_dict()
        return self.best["epoch"], self.best["weights"]

    @property
    def evaluated(self) -> nn.Module:
        """The network whose checkpoints are evaluated: the trained one, or the average of its weights."""
        return self.learner.network if self.learner.average is None else self.learner.average.network

    @property
    def spent(self) -> dict[str, float]:
        """Compute in ordinary epochs, passes in sweeps over the training split, and updates: see record.schema.yaml."""
        spent, images = self.learner.spent, len(self.batches.images)
        return {
            "compute": spent.flops / self._ordinary_epoch,
            "passes": spent.backwards / images,
            "forwards": spent.forwards / images,
            "backwards": spent.backwards / images,
            "updates": spent.updates,
        }

    @property
    def cuda_graphs(self) -> bool:
        """Whether minibatches were recorded, and not trained step by step."""
        return self._minibatches.recorded

    @property
    def _position(self) -> Position:
        return Position(self._epoch, self.spec["training"]["epochs"], self._batch, len(self.batches))

    def _hook(self, name: str, *arguments) -> None:
        """What the method does outside the recording, inside the clock, its operations counted outside it."""
        if getattr(type(self.method), name) is getattr(Method, name):
            return
        function = partial(getattr(self.method, name), *arguments)
        with self.clock.warming_up():
            flops = self._minibatches.flops_of(function)
        function()
        self.learner.spent.flops += flops

    def _scalars(self) -> dict[str, Tensor]:
        """What the method's schedule says of the next minibatch: the same tensors each time, filled anew."""
        for name, value in self.method.schedule(self._position).items():
            if name not in self._scheduled:
                self._scheduled[name] = torch.zeros((), device=self.device)
            self._scheduled[name].fill_(value)
        return self._scheduled

    def _train_batch(self, batch, effort) -> None:
        training, schedule = self.spec["training"], self._schedule
        minibatches = training["epochs"] * len(self.batches)
        position = self._epoch * len(self.batches) + self._batch
        positions = schedule.positions(position, self.method.updates(effort))
        rates = [schedule.rate(training["lr"], minibatches, place) for place in positions]
        momenta = None
        if schedule.cycles_momentum:
            usual = training["optimizer"]["momentum"]
            momenta = [schedule.momentum(usual, minibatches, place) for place in positions]
        self._minibatches.train(batch, effort, rates, momenta)
        self._batch += 1

    def _end_epoch(self, effort) -> None:
        loss, correct, magnitude = self._sums.tolist()
        images = len(self.batches.images)
        statistics = steps.Statistics(magnitude=magnitude, accuracy=correct / images)
        validation = trained = None
        if reason := diverged(loss, self.learner.network):
            self.status, self.status_epoch, self.status_reason = "diverged", self._epoch, reason
        else:
            validation, trained = self._validate()
            self.rule.end_epoch(self._epoch, statistics)
        self._note(effort, loss / images, statistics, validation, trained)
        self._epoch, self._batch = self._epoch + 1, 0
        self._sums.zero_()
        self._at_epoch_start = (self.clock.seconds, self.clock.load.cpu_seconds, self.learner.spent.as_dict())

    def _validate(self) -> tuple[Accuracies, Accuracies | None]:
        """What the validation split says after the epoch, noted: the best weights so far, and a collapse.

        It is of the network that is evaluated, and of the trained one where that is another: the average of a network
        that has collapsed may hide it.
        """
        # Its batches shrink from step to step, and kernels would be chosen by timing for each size anew.
        timing, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
        with self.learner.spent.held():
            validation = self._accuracies(self.evaluated)
            trained = None if self.learner.average is None else self._accuracies(self.learner.network)
        torch.backends.cudnn.benchmark = timing
        if self._is_best(validation.pgd):
            weights = {name: tensor.clone() for name, tensor in self.evaluated.state_dict().items()}
            self.best = {"epoch": self._epoch, "pgd_accuracy": validation.pgd, "weights": weights}
        if self.status == "ok" and (reason := self.watch.collapsed(trained or validation)):
            self.status, self.status_epoch, self.status_reason = "collapsed", self._epoch, reason
        return validation, trained

    def _accuracies(self, network: nn.Module) -> Accuracies:
        generator = seeded(self.device, self.spec["seed"], VALIDATION, self._epoch)
        threat = replace(self.method.threat, generator=generator)
        return validate(network, self._val_images, self._val_labels, threat, self.spec["training"]["validation_steps"])

    def _is_best(self, pgd: float) -> bool:
        """Whether the epoch's weights are to be kept: of equal accuracies the first, of those of guessing the last."""
        best = -1.0 if self.best is None else self.best["pgd_accuracy"]
        return pgd > best or not self.watch.is_robust(best)

    def _note(self, effort, loss, statistics, validation, trained) -> None:
        """One row of epochs.csv, and the same as a line of the log."""
        seconds, cpu_seconds, before = self._at_epoch_start
        spent = {key: value - before[key] for key, value in self.learner.spent.as_dict().items()}
        row = {
            "epoch": self._epoch,
            "seconds": self.clock.seconds - seconds,
            "cpu_seconds": self.clock.load.cpu_seconds - cpu_seconds,
            "compute": spent["flops"] / self._ordinary_epoch,
            "passes": spent["backwards"] / len(self.batches.images),
            "updates": spent["updates"],
            "steps": effort.steps,
            "step_size": effort.step_size,
            "learning_rate": self.learner.last_rate,
            "train_loss": finite(loss),
            "train_accuracy": statistics.accuracy,
            "magnitude": finite(statistics.magnitude) if self.rule.magnitude_of else None,
            **epoch_rows.of_validation(validation, trained),
        }
        self.rows.append(row)
        self._log(epoch_rows.line(row))

    def _state(self) -> dict:
        return {
            "network": self.learner.network.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "spent": self.learner.spent.as_dict(),
            "average": None if self.learner.average is None else self.learner.average.state_dict(),
            "last_rate": self.learner.last_rate,
            "noise": self._noise.get_state(),
            "method": self.method.state,
            "modules": {name: module.state_dict() for name, (module, _) in self.method.extra.items()},
            "optimizers": {name: own.state_dict() for name, (_, own) in self.method.extra.items() if own is not None},
            "rule": self.rule.state_dict(),
            "watch": self.watch.state_dict(),
            "seconds": self.clock.seconds,
            "warmup_seconds": self.clock.warmup_seconds,
            "load": list(self.clock.load.seconds),
            "sums": self._sums,
            "position": [self._epoch, self._batch],
            "at_epoch_start": list(self._at_epoch_start),
            "rows": self.rows,
            "best": self.best,
            "status": [self.status, self.status_epoch, self.status_reason],
            "parts": self.parts,
            "started": self.started,
            "peak_memory": self.clock.memory.bytes,
        }

    def _save(self) -> None:
        checkpoint.save(self._resume, self._identity, self._state())

    def _load(self) -> None:
        try:
            state = checkpoint.load(self._resume, self._identity, self.device)
        except UserError as error:
            self.starts_anew = f"training starts anew: {error}"
            self._log(self.starts_anew)
            return
        if state is None:
            return
        try:
            self._restore(state)
        except Exception:  # of many kinds: under the right digest and identity there may still lie anything
            path = checkpoint.file_of(self._resume, self._identity)
            raise UserError(f"{path} holds no state of this run; delete it, and the run starts anew") from None
        self._log(f"resumed at epoch {self._epoch}, minibatch {self._batch}")

    def _restore(self, state: dict) -> None:
        for key, value in self._state().items():
            if not isinstance(state[key], type(value)) and value is not None:
                raise TypeError(key)
        self.learner.network.load_state_dict(state["network"])
        self.learner.optimizer.load_state_dict(state["optimizer"])
        self.learner.spent.set(Spent(**state["spent"]))
        if self.learner.average is not None:
            self.learner.average.load_state_dict(state["average"])
        self.learner.last_rate = state["last_rate"]
        self._noise.set_state(state["noise"].cpu())
        self.method.state = state["method"]
        for name, (module, optimizer) in self.method.extra.items():
            module.load_state_dict(state["modules"][name])
            if optimizer is not None:
                optimizer.load_state_dict(state["optimizers"][name])
        self.rule.load_state_dict(state["rule"])
        self.watch.load_state_dict(state["watch"])
        self.clock.seconds, self.clock.warmup_seconds = state["seconds"], state["warmup_seconds"]
        self.clock.load.seconds = tuple(state["load"])
        self._sums.copy_(state["sums"])
        self._epoch, self._batch = state["position"]
        self._at_epoch_start = tuple(state["at_epoch_start"])
        self.rows, self.best = state["rows"], state["best"]
        self.status, self.status_epoch, self.status_reason = state["status"]
        self.parts, self.started = state["parts"] + 1, state["started"]
        self.clock.memory.bytes = state["peak_memory"]
