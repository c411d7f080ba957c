# data -> train -> evaluate -> collate. `snakemake` alone makes all results of the default suite.
import json
import sys
from pathlib import Path

import methods
from experiment import provenance, schema
from experiment.errors import UserError
from experiment.lock import hold
from experiment.suite import Suite

if not config:  # a suite given by --configfile must not be merged into the default one

    configfile: "configs/quick.yaml"


try:
    for file in workflow.configfiles:  # Snakemake's own reader keeps the last of two equal keys and says nothing
        schema.read_yaml(Path(file).read_text(), file)
    suite = Suite.from_mapping(config)
    suite.check_files()
    methods.check(suite.resolved["variants"])
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

PYTHON = sys.executable
SUITE = json.dumps(config)  # what jobs read; which part of it a job depends on is said by its params
RESULTS = "results/" + suite.name
GPU = int(provenance.device().type == "cuda")  # evaluations share a CPU's cores, but not a GPU
LOCKS = []  # held until this process ends
RUN = RESULTS + "/{dataset}/{variant}/seed{seed}"


wildcard_constraints:
    dataset="[^/]+",
    variant="[^/]+",
    seed="[0-9]+",
    attack="[^/]+",


rule all:
    input:
        RESULTS + "/runs.csv",
    message:
        "all results are in " + RESULTS


rule data:
    output:
        train=suite.data_file("{dataset}", "train"),
        test=suite.data_file("{dataset}", "test"),
    params:
        dir=suite.resolved["data_dir"],
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
    threads: workflow.cores  # a timed run has the machine to itself
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


rule collate:
    input:
        [f"{RESULTS}/{run.folder}/evaluate/{attack}.json" for run in suite.runs() for attack in suite.attacks],
    output:
        RESULTS + "/runs.csv",
        summary=RESULTS + "/summary.txt",
        tables=expand(
            RESULTS + "/tables/{table}.{format}",
            table=["robustness", "cost", "mplus_effect"],
            format=["csv", "md", "tex"],
        ),
        plots=directory(RESULTS + "/plots"),
    params:
        suite=suite.resolved,
    message:
        "collate " + RESULTS
    shell:
        "{PYTHON} -m evaluation.collate - <<< {SUITE:q} > {output.summary}"


onstart:
    # Snakemake's own lock outlives a killed Snakemake (the profile turns it off); this one does not.
    try:
        LOCKS.append(hold(Path(RESULTS) / ".lock"))
    except UserError as error:
        sys.exit(f"error: {error}")


onsuccess:
    shell(f"test ! -e {RESULTS}/summary.txt || cat {RESULTS}/summary.txt")  # there is none yet if one run was asked for


onerror:
    if list(Path(RESULTS).glob("*/*/*/train.json")):  # tables of what there is; what is missing is named
        shell("{PYTHON} -m evaluation.collate - <<< {SUITE:q} || true")
