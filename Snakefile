# data -> train -> evaluate -> collate -> report. `snakemake` alone makes all results of the default suite.
# What is there and is as the suite says is left alone, whatever its time: see rules/outdated.smk.


include: "rules/common.smk"
include: "rules/outdated.smk"
include: "rules/data.smk"
include: "rules/training.smk"
include: "rules/evaluation.smk"
include: "rules/reporting.smk"


rule all:
    default_target: True
    input:
        rules.collate.output,
        expand(rules.examples.output, dataset=suite.datasets),
        rules.report.output,
        outdated=sorted({file for path in TODO for file in again(path)}),
    message:
        f"all results are in {RESULTS}"


onstart:
    # Snakemake's own lock outlives a killed Snakemake (the profile turns it off); this one does not.
    try:
        LOCKS.append(hold(RESULTS / ".lock"))
        claim.stake(RESULTS, workflow.configfiles, suite, config)
    except UserError as error:
        sys.exit(f"error: {error}")
    shutil.rmtree(backups(), ignore_errors=True)  # of a killed Snakemake's jobs


onsuccess:
    for last, line in [
        ("summary.txt", "cat"),
        ("report.html", "echo Report:"),
    ]:  # none yet if one run was asked for
        shell("test ! -e {RESULTS}/{last} || {line} {RESULTS}/{last}")


onerror:
    if list(RESULTS.glob("*/*/*/train.json")):  # tables of what there is; what is missing is named
        for stage in ("collate", "page"):
            shell("{PYTHON:q} -P -m reporting.{stage} {SUITE:q} || true")
