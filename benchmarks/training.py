"""How fast a suite trains, beside the usual loop, a bare loop and the time that the arithmetic alone would take.

    python -m benchmarks.training configs/cifar10.yaml --variants pgd-7,fast

A benchmark, not a test: it leaves no results. Every loop is timed once in each repeat, so that whatever else the
machine does falls on all alike, and the suite twice, which shows the noise. Variants make their first epoch's steps.
"""

import argparse
import copy
import gc
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from tabulate import tabulate
from torch import Tensor

from benchmarks.bare import BareLoop, backwards
from benchmarks.usual import UsualLoop, loader
from experiment import models, precision, provenance, slots
from experiment.datasets.dataset import Dataset, train_validation_split
from experiment.errors import UserError, reported
from experiment.files import write_atomically
from experiment.quantity import count, threads
from experiment.suite import Run, Suite
from methods import load
from training.batches import Batches
from training.clock import synchronize
from training.counts import FlopCounter
from training.cuda_graphs import CudaGraphs
from training.trainer import Trainer

SECONDS = 1.0  # of one timing; where a minibatch takes longer, of one minibatch
BARE_BELOW = 0.5  # seconds a minibatch: above it, what is not a pass is too little to be seen
COUNTED_IMAGES = 8  # operations are counted on so few images, and are proportional to them
LEGEND = """\
suite: training.run; again: the same once more in each repeat, so the noise. usual: NCHW, fp32, DataLoader, torchvision
transforms, loss.backward() in the attack, .item() every minibatch. bare: the suite's passes and updates alone.
Medians over {repeats} repeats; spread: (highest - lowest) / median. A pass: a forward and a backward of a minibatch.
data: loading and augmentation, as a share of an epoch. x floor: the time, in units of what the passes' operations take
at the device's highest measured rate ({rate}). memory: the highest use while it ran, of {memory_of},
and with what the other loops keep."""


class Bench:
    """A run of a suite, whose minibatches the suite, the usual loop and a bare loop can train on.

    dataset, split: as for the Trainer; scratch: a folder that nothing is written to.
    """

    def __init__(self, run: Run, dataset: Dataset, split: tuple, device: torch.device, scratch: Path):
        self.run, self._dataset, self._split, self._device, self._scratch = run, dataset, split, device, scratch
        images, labels, *_ = split
        training = run.spec["training"]
        self.batch_size, augmentation = training["batch_size"], dataset.augmentation
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        trainer = self._trainer(COUNTED_IMAGES)
        self._method_state: dict[str, Tensor] = {}
        self.precision, effort = trainer.precision, trainer.rule.effort_for(0)
        trainer.learner.network.train()
        few = next(trainer.batches.epoch(0))
        with FlopCounter() as counter:
            calls = backwards(trainer.method, trainer.learner, few, effort)
        self.flops = counter.flops / len(few) * self.batch_size
        self.passes = trainer.learner.spent.backwards / len(few)
        self._batches = Batches(images.to(device), labels.to(device), self.batch_size, 0, augmentation)
        self.whole_minibatches = len(images) // self.batch_size
        self._fixed = next(self._batches.epoch(0))
        pictures = loader(images, labels, self.batch_size, augmentation, pin_memory=device.type == "cuda")
        method = load(run.spec["method"])(trainer.method.threat, **run.spec["options"])  # with a state of its own
        self._usual = UsualLoop(models.of_run(run.spec, dataset).train(), method, effort, training, pictures, device)
        network = models.of_run(run.spec, dataset).train().to(device, memory_format=torch.channels_last)
        self._bare = BareLoop(network, calls, self.precision == "bf16")

    @property
    def usual_precision(self) -> str:
        """The usual loop's: PyTorch's own mixture."""
        return "fp32" if self._stream is None else "fp32, convolutions in TF32"

    def suite(self, minibatches: int) -> tuple[float, int]:
        """Seconds and peak memory by the suite's own clock, which validation and warm-up are outside of."""
        trainer = self._trainer(minibatches * self.batch_size)
        # The minibatch in which a method makes its state is trained step by step; here it goes on, as if resumed.
        trainer.method.state = {name: tensor.clone() for name, tensor in self._method_state.items()}
        trainer.train()
        self._method_state = trainer.method.state
        if self._stream is not None and not trainer.cuda_graphs:
            print(f"benchmarks.training: {self.run.variant} is trained step by step", file=sys.stderr, flush=True)
        return trainer.clock.seconds, trainer.clock.memory.bytes

    def usual(self, minibatches: int) -> tuple[float, int]:
        """Seconds and peak memory of the usual loop, with the settings of PyTorch that such a loop runs with."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
            return timed(lambda: self._usual.train(minibatches), self._device)

    def bare(self, minibatches: int) -> tuple[float, int]:
        """Seconds and peak memory of the bare loop, in the suite's precision."""
        precision.apply(self.precision)
        return timed(lambda: self._bare.train(self._fixed.images, self._fixed.labels, minibatches), self._device)

    def data(self) -> float:
        """Seconds a minibatch of an epoch takes to be drawn, augmented and scaled."""
        return timed(lambda: deque(self._batches.epoch(0), maxlen=0), self._device)[0] / len(self._batches)

    def _trainer(self, images: int) -> Trainer:
        train, validation = self._split[:2], self._split[2:]
        split = (*(tensor[:images] for tensor in train), *(tensor[:COUNTED_IMAGES] for tensor in validation))
        spec = copy.deepcopy(self.run.spec)
        spec["training"] |= {"epochs": 1, "validation_steps": 1}
        stream = self._stream
        return Trainer(
            *(spec, self._dataset, split, self._device, self._scratch / "none", float("inf")),
            log=lambda line: None,
            recorder=lambda device, generator: CudaGraphs(device, generator, stream) if stream else None,
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.partition("\n")[0])
    parser.add_argument("suite", nargs="?", default="configs/quick.yaml", help="YAML file; default: %(default)s")
    parser.add_argument("--dataset", help="default: the suite's first")
    parser.add_argument("--variants", help="labels, separated by commas; default: all")
    parser.add_argument("--precision", choices=("auto", "fp32", "tf32", "bf16"), help="default: the suite's")
    parser.add_argument("--repeats", type=count, default=5, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=threads, help="CPU threads; default: the suite's, or else PyTorch's own choice"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers and what they were measured on")
    options = parser.parse_args(arguments)
    with reported("benchmarks.training"), slots.gpu() as slot, slots.timed(slot):
        provenance.check_slot(slot)
        measured = measure(Suite.load(options.suite), options)
        print(table(measured))
        if options.json:
            write_atomically(options.json, (json.dumps(measured, indent=1) + "\n").encode())


def measure(suite: Suite, options: argparse.Namespace) -> dict:
    """The numbers of the variants asked for, and the hardware and software that gave them."""
    torch.set_num_threads(options.threads or suite.threads or torch.get_num_threads())
    device, rates, rows = provenance.device(), {}, []
    for run in chosen(suite, options.dataset, options.variants):
        training = run.spec["training"]
        if (name := training["optimizer"]["name"]) != "sgd":
            raise UserError(f"{run.variant} trains with {name}; the loops that training is compared with have sgd")
        training["precision"] = options.precision or training["precision"]
        images, labels = suite.load_split(run.dataset, "train")
        split = train_validation_split(images, labels, training["validation_images"], training["max_train_images"])
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(run, suite.dataset(run.dataset), split, device, Path(scratch))
            rows += measure_run(bench, options.repeats, device, rates)
    return {
        "suite": suite.name,
        "repeats": options.repeats,
        "matrix_flops_per_second": rates,
        "hardware": provenance.hardware(device),
        "torch": torch.__version__,
        "sources": provenance.sha256_of("engine", "training"),
        "rows": rows,
    }


def chosen(suite: Suite, dataset: str | None, variants: str | None) -> list[Run]:
    """A run of each variant asked for, of the first seed."""
    labels = variants.split(",") if variants else [variant.label for variant in suite.variants]
    return [suite.run(f"{dataset or suite.datasets[0]}/{label}/seed{suite.seeds[0]}") for label in labels]


def measure_run(bench: Bench, repeats: int, device: torch.device, rates: dict[str, float]) -> list[dict]:
    """One row for each loop; `rates` gets the highest matrix rate seen so far in the run's precision."""
    print(f"benchmarks.training: {bench.run.variant}", file=sys.stderr, flush=True)
    loops = {"suite": bench.suite, "again": bench.suite, "usual": bench.usual}
    bench.usual(1)
    first, _ = bench.suite(1)
    if first < SECONDS:  # or else the warm-up is short beside it
        first, _ = bench.suite(1)
    if first < BARE_BELOW:
        loops["bare"] = bench.bare
        bench.bare(1)
    count = max(1, min(round(SECONDS / first), bench.whole_minibatches))
    results, data = {name: [] for name in loops}, []
    for _ in range(repeats):
        for name, loop in loops.items():
            gc.collect()
            if device.type == "cuda" and name in ("usual", "bare"):
                loop(1)  # what was recorded before it has emptied the allocator's cache
            results[name].append(loop(count))
        data.append(bench.data())
        rates[bench.precision] = max(rates.get(bench.precision, 0), matrix_rate(device, bench.precision))
    usual = median(seconds for seconds, _ in results["usual"])
    share = median(data) * count / median(seconds for seconds, _ in results["suite"])
    rows = [row(bench, name, result, count, usual, rates[bench.precision]) for name, result in results.items()]
    return [one | {"data_share": share if one["loop"] == "suite" else None} for one in rows]


def row(bench: Bench, name: str, results: list[tuple[float, int]], count: int, usual: float, rate: float) -> dict:
    """The numbers of one loop, `count` minibatches a repeat; usual: the usual loop's seconds; rate: FLOP/s."""
    seconds = [one for one, _ in results]
    typical = median(seconds)
    floor = count * bench.flops / rate
    return {
        "dataset": bench.run.dataset,
        "variant": bench.run.variant,
        "loop": name,
        "precision": bench.usual_precision if name == "usual" else bench.precision,
        "minibatches": count,
        "batch_size": bench.batch_size,
        "passes": bench.passes * count,
        "flops": bench.flops * count,
        "seconds": seconds,
        "images_per_second": count * bench.batch_size / typical,
        "passes_per_second": count * bench.passes / typical,
        "ms_per_pass": 1000 * typical / (count * bench.passes),
        "spread": (max(seconds) - min(seconds)) / typical,
        "floor_seconds": None if name == "usual" else floor,  # of the arithmetic that the others have
        "times_floor": None if name == "usual" else typical / floor,
        "speedup_over_usual": usual / typical,
        "peak_memory_bytes": max(memory for _, memory in results),
    }


def table(measured: dict) -> str:
    """What the terminal shows."""
    labels = measured["hardware"]["label"]
    rows = [
        {
            "variant": row["variant"],
            "loop": row["loop"],
            "images/s": f"{row['images_per_second']:.4g}",
            "passes/s": f"{row['passes_per_second']:.4g}",
            "ms/pass": f"{row['ms_per_pass']:.4g}",
            "spread": f"{row['spread']:.0%}",
            "x usual": f"{row['speedup_over_usual']:.2f}",
            "x floor": "" if row["times_floor"] is None else f"{row['times_floor']:.2f}",
            "data": "" if row["data_share"] is None else f"{row['data_share']:.2%}",
            "memory": f"{row['peak_memory_bytes'] / 2**20:.0f} MiB",
            "arithmetic": row["precision"],
        }
        for row in measured["rows"]
    ]
    rates = measured["matrix_flops_per_second"].items()
    rate = ", ".join(f"{name}: {value / 1e9:.4g} GFLOP/s" for name, value in rates)
    memory_of = "the GPU" if measured["hardware"]["device"] == "cuda" else "the whole process"
    legend = LEGEND.format(repeats=measured["repeats"], rate=rate, memory_of=memory_of)
    title = f"{measured['suite']}, on {labels}, PyTorch {measured['torch']}"
    return f"{title}\n\n{tabulate(rows, headers='keys', disable_numparse=True)}\n\n{legend}"


def matrix_rate(device: torch.device, arithmetic: str) -> float:
    """Floating-point operations a second of a large product of matrices or a 3x3 convolution, whichever is faster."""
    precision.apply(arithmetic)
    side, images = (8192, 512) if device.type == "cuda" else (1024, 16)
    dtype = torch.bfloat16 if arithmetic == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    maps = torch.randn(images, 256, 32, 32, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    work = {
        2 * side**3: lambda: matrix @ matrix,
        2 * 9 * 256**2 * images * 32**2: lambda: torch.conv2d(maps, kernel, padding=1),
    }
    return max(flops / min(timed(call, device)[0] for _ in range(4)) for flops, call in work.items())


def timed(work: Callable, device: torch.device) -> tuple[float, int]:
    """Seconds until the device has done `work`, and the highest use of memory meanwhile, in bytes."""
    provenance.reset_peak_memory(device)
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start, provenance.peak_memory(device)[0]


if __name__ == "__main__":
    main()
