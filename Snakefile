# data -> train -> evaluate -> collate -> report. `snakemake` alone makes all results of the default suite.
# What is there and is as the suite says is left alone, whatever its time: see rules/outdated.smk.
import os
import shutil
import sys
from pathlib import Path

import yaml

from analysis import digests, outdated
from experiment import claim, slots, strict_yaml
from experiment.errors import UserError
from experiment.lock import hold
from experiment.suite import Suite

PROJECT = workflow.basedir

if not workflow.overwrite_configfiles:  # a suite given by --configfile must not be merged into the default one

    configfile: PROJECT + "/configs/quick.yaml"


try:
    for file in workflow.configfiles:  # Snakemake's own reader keeps the last of two equal keys and says nothing
        strict_yaml.read(file)
    suite = Suite.from_mapping(config, ", ".join(map(str, workflow.configfiles)))
    RESULTS = "results/" + suite.name
    claim.check(Path(RESULTS), workflow.configfiles)
    suite.check_files()
    TODO = outdated.reasons(suite, Path(RESULTS))
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

os.environ["PYTHONPATH"] = PROJECT  # results lie in the working directory, sources in the project
PYTHON = sys.executable
SUITE = yaml.safe_dump(config, sort_keys=False)  # what jobs read
GPUS = slots.count()
GPU = min(GPUS, 1)  # of each job: evaluations share a CPU's cores, but no job shares a GPU
LOCKS = []  # held until this process ends
RUN = RESULTS + "/{dataset}/{variant}/seed{seed}"
TRAINED = "{w.dataset}/{w.variant}/seed{w.seed}/train.json"
ATTACKED = "{w.dataset}/{w.variant}/seed{w.seed}/evaluate/{w.attack}.json"

if "gpu" not in workflow.global_resources:  # what --resources or a profile says goes before
    workflow.register_resource("gpu", GPUS)


include: "rules/outdated.smk"


wildcard_constraints:
    dataset="[^/]+",
    variant="[^/]+",
    seed="[0-9]+",
    attack="[^/]+",


rule all:
    input:
        [f"{RESULTS}/{file}" for file in digests.files_of_runs(suite)],
        RESULTS + "/report.html",
    message:
        "all results are in " + RESULTS


rule data:
    output:
        train=suite.data_file("{dataset}", "train"),
        test=suite.data_file("{dataset}", "test"),
    params:
        dir=str(suite.data_folder),
        mirrors=lambda w: suite.resolved["mirrors"].get(w.dataset, []),
    message:
        "data {wildcards.dataset}"
    priority: 2  # what cannot be had should be known before anything is trained
    shell:
        "{PYTHON:q} -P -m experiment.data {wildcards.dataset} --data-dir {params.dir:q} --mirror {params.mirrors:q}"


rule train:
    input:
        data=lambda w: needed(TRAINED.format(w=w), suite.data_file(w.dataset, "train")),
        outdated=lambda w: again(TRAINED.format(w=w)),
    output:
        record=update(RUN + "/train.json"),
        epochs=update(RUN + "/epochs.csv"),
        weights=update(RUN + "/model.safetensors"),
    message:
        "train {wildcards.dataset} {wildcards.variant} seed {wildcards.seed}"
    priority: 1  # a timed run waits for the machine, and would wait for an attack each time
    threads: max(1, workflow.cores // max(1, GPUS))  # a timed run has a GPU, or else the machine, to itself
    resources:
        gpu=GPU,
    shell:
        "{PYTHON:q} -P -m training.run - {wildcards.dataset}/{wildcards.variant}/seed{wildcards.seed}"
        " --threads {threads} <<< {SUITE:q}"


rule evaluate:
    input:
        data=lambda w: needed(ATTACKED.format(w=w), suite.data_file(w.dataset, "test")),
        record=ancient(RUN + "/train.json"),
        weights=ancient(RUN + "/model.safetensors"),
        outdated=lambda w: again(TRAINED.format(w=w), ATTACKED.format(w=w)),
    output:
        record=update(RUN + "/evaluate/{attack}.json"),
        verdicts=update(RUN + "/evaluate/{attack}.robust.npy"),
    message:
        "evaluate {wildcards.dataset} {wildcards.variant} seed {wildcards.seed} {wildcards.attack}"
    threads: 1
    resources:
        gpu=GPU,
    shell:
        "{PYTHON:q} -P -m evaluation.run - {wildcards.dataset}/{wildcards.variant}/seed{wildcards.seed}"
        " {wildcards.attack} --threads {threads} <<< {SUITE:q}"


include: "rules/reporting.smk"


onstart:
    # Snakemake's own lock outlives a killed Snakemake (the profile turns it off); this one does not.
    try:
        LOCKS.append(hold(Path(RESULTS) / ".lock"))
        claim.stake(Path(RESULTS), workflow.configfiles, suite)
    except UserError as error:
        sys.exit(f"error: {error}")
    shutil.rmtree(workflow.persistence.path / "backups" / RESULTS, ignore_errors=True)  # of a killed Snakemake's jobs


onsuccess:
    for last, line in [("summary.txt", "cat"), ("report.html", "echo Report:")]:  # none yet if one run was asked for
        shell("test ! -e {RESULTS}/{last} || {line} {RESULTS}/{last}")


onerror:
    if list(Path(RESULTS).glob("*/*/*/train.json")):  # tables of what there is; what is missing is named
        for stage in ("collate", "report"):
            shell("{PYTHON:q} -P -m evaluation.{stage} - <<< {SUITE:q} || true")
