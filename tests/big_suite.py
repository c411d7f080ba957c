"""How long collating a big suite takes: PYTHONPATH=. python tests/big_suite.py [--seeds N]

Writes synthetic records of 21 variants on 3 data sets with 5 seeds (315 runs, 1890 evaluations of 10,000 images each,
50 epochs) into a temporary folder, collates them in a process of its own as the command does, and prints the CPU
seconds of its parts, all its seconds by the clock, and its peak memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from synthetic import VARIANTS, made_up_suite, write_results

ATTACKS = ("clean", "fgsm", "pgd-20", "pgd-50", "margin-20", "autoattack")
COLLATE = """
import json, sys, time
from pathlib import Path
began = time.perf_counter()
from analysis import results
from experiment.suite import Suite
from reporting import plots, tables
said = {"imports": time.process_time()}
def timed(name, function, *arguments):
    start = time.process_time()
    result = function(*arguments)
    said[name] = time.process_time() - start
    return result
suite, folder = Suite.from_mapping(json.loads(sys.argv[1])), Path(sys.argv[2])
found = timed("records", results.collate, suite, folder)
timed("tables", lambda: [table.files() for table in tables.build(suite, found.runs)])
timed("plots", plots.draw, suite, found.runs, found.epochs)
said["runs"] = len(found.runs.drop_duplicates(["dataset", "variant", "seed"]))
said["problems"] = len(found.problems)
said["all, CPU"], said["all, clock"] = time.process_time(), time.perf_counter() - began
status = Path("/proc/self/status").read_text().splitlines()  # getrusage's peak has that of the parent in it
said["peak MiB"] = int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) / 1024
print(json.dumps(said))
"""


def big_variants(count: int) -> dict[str, tuple]:
    """So many variants, the ten of the default suite and their like under other labels."""
    known = list(VARIANTS.items())
    variants = {}
    for index in range(count):
        label, (method, rule, base, *rest) = known[index % len(known)]
        again = index // len(known)
        name, of = (f"{each}.{again}" if again and each else each for each in (label, base))
        variants[name] = (method, rule, of, *rest)
    return variants


def measure(root: Path, *, variants: int, datasets: tuple[str, ...], seeds: int, images: int, epochs: int) -> dict:
    """Seconds by part and peak memory in MiB of a process that collates such a suite, written under `root`."""
    made = big_variants(variants)
    suite = made_up_suite(
        made,
        name="big",
        datasets=datasets,
        seeds=range(seeds),
        attacks=ATTACKS,
        epochs=epochs,
        network="preact_resnet18",
    )
    folder = write_results(root, suite, variants=made, images=images)
    command = [sys.executable, "-c", COLLATE, json.dumps(suite.resolved), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seeds", type=int, default=5)
    with tempfile.TemporaryDirectory() as root:
        said = measure(
            Path(root),
            **{"variants": 21, "datasets": ("digits", "cifar10", "cifar100"), "seeds": parser.parse_args().seeds},
            **{"images": 10_000, "epochs": 50},
        )
    print("\n".join(f"{name:<10} {value:.1f}" for name, value in said.items()))
