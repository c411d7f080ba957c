# data -> train -> evaluate -> collate -> report. `snakemake` alone makes all results of the default suite.
import json
import sys
from pathlib import Path

import methods
from experiment import schema, slots
from experiment.errors import UserError
from experiment.lock import hold
from experiment.suite import Suite

if not config:  # a suite given by --configfile must not be merged into the default one

    configfile: "configs/quick.yaml"


try:
    for file in workflow.configfiles:  # Snakemake's own reader keeps the last of two equal keys and says nothing
        schema.read(file)
    suite = Suite.from_mapping(config, ", ".join(map(str, workflow.configfiles)))
    suite.check_files()
    methods.check(suite.resolved["variants"])
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

PYTHON = sys.executable
SUITE = json.dumps(config)  # what jobs read; which part of it a job depends on is said by its params
RESULTS = "results/" + suite.name
GPUS = slots.count()
GPU = min(GPUS, 1)  # of each job: evaluations share a CPU's cores, but no job shares a GPU
LOCKS = []  # held until this process ends
RUN = RESULTS + "/{dataset}/{variant}/seed{seed}"

if "gpu" not in workflow.global_resources:  # what --resources or a profile says goes before
    workflow.register_resource("gpu", GPUS)


wildcard_constraints:
    dataset="[^/]+",
    variant="[^/]+",
    seed="[0-9]+",
    attack="[^/]+",


rule all:
    input:
        RESULTS + "/report.html",
    message:
        "all results are in " + RESULTS


rule data:
    output:
        train=suite.data_file("{dataset}", "train"),
        test=suite.data_file("{dataset}", "test"),
    params:
        dir=str(suite.data_dir),
        mirrors=lambda w: suite.resolved["mirrors"].get(w.dataset, []),
    message:
        "data {wildcards.dataset}"
    priority: 2  # what cannot be had should be known before anything is trained
    shell:
        "{PYTHON} -m experiment.data {wildcards.dataset} --data-dir {params.dir:q} --mirror {params.mirrors:q}"


rule train:
    input:
        data=ancient(suite.data_file("{dataset}", "train")),  # its content is verified by checksum
        method=lambda w: suite.method_files(w.variant),
    output:
        record=RUN + "/train.json",
        epochs=RUN + "/epochs.csv",
        weights=RUN + "/model.safetensors",
    params:
        spec=lambda w: suite.run(f"{w.dataset}/{w.variant}/seed{w.seed}").spec,
    message:
        "train {wildcards.dataset} {wildcards.variant} seed {wildcards.seed}"
    priority: 1  # a timed run waits for the machine, and would wait for an attack each time
    threads: max(1, workflow.cores // max(1, GPUS))  # a timed run has a GPU, or else the machine, to itself
    resources:
        gpu=GPU,
    shell:
        "{PYTHON} -m training.run - {wildcards.dataset}/{wildcards.variant}/seed{wildcards.seed}"
        " --threads {threads} <<< {SUITE:q}"


rule evaluate:
    input:
        data=ancient(suite.data_file("{dataset}", "test")),
        record=RUN + "/train.json",
        weights=RUN + "/model.safetensors",
    output:
        record=RUN + "/evaluate/{attack}.json",
        verdicts=RUN + "/evaluate/{attack}.robust.npy",
    params:
        settings=lambda w: suite.attack(w.attack),
    message:
        "evaluate {wildcards.dataset} {wildcards.variant} seed {wildcards.seed} {wildcards.attack}"
    threads: 1
    resources:
        gpu=GPU,
    shell:
        "{PYTHON} -m evaluation.run - {wildcards.dataset}/{wildcards.variant}/seed{wildcards.seed}"
        " {wildcards.attack} --threads {threads} <<< {SUITE:q}"


include: "evaluation/rules.smk"


onstart:
    # Snakemake's own lock outlives a killed Snakemake (the profile turns it off); this one does not.
    try:
        LOCKS.append(hold(Path(RESULTS) / ".lock"))
    except UserError as error:
        sys.exit(f"error: {error}")


onsuccess:
    for last, line in [("summary.txt", "cat"), ("report.html", "echo Report:")]:  # none yet if one run was asked for
        shell(f"test ! -e {RESULTS}/{last} || {line} {RESULTS}/{last}")


onerror:
    if list(Path(RESULTS).glob("*/*/*/train.json")):  # tables of what there is; what is missing is named
        for stage in ("collate", "report"):
            shell("{PYTHON} -m evaluation.{stage} - <<< {SUITE:q} || true")
