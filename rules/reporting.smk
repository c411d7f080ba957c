# The Snakefile's last stages: what people read, from the records. Names in capitals are the Snakefile's.
TABLES = ["robustness", "cost", "effect", "literature"]
ABOUT = "../reporting/templates/captions/{}.rst".format  # of the page that `snakemake --report` makes


rule collate:
    input:
        ancient([f"{RESULTS}/{file}" for file in digests.files_of_runs(suite)]),
        outdated=again("runs.csv"),
    output:
        runs=report(update(RESULTS + "/runs.csv"), caption=ABOUT("runs"), category="Records"),
        summary=update(RESULTS + "/summary.txt"),
        tables=report(
            update(expand(RESULTS + "/tables/{t}.csv", t=TABLES)), caption=ABOUT("tables"), category="Tables"
        ),
        typeset=update(expand(RESULTS + "/tables/{t}.{format}", t=TABLES, format=["md", "tex"])),
        plots=report(
            update(directory(RESULTS + "/plots")), patterns=["{p}.svg"], caption=ABOUT("plots"), category="Plots"
        ),
    message:
        "collate " + RESULTS
    shell:
        "{PYTHON:q} -P -m reporting.collate - <<< {SUITE:q} > {output.summary}"


rule examples:
    input:
        ancient(RESULTS + "/runs.csv"),  # has the digests of the weights
        data=lambda w: needed("runs.csv", suite.data_file(w.dataset, "test")),
        outdated=again("runs.csv"),
    output:
        update(multiext(RESULTS + "/examples/{dataset}", ".png", ".json")),
    message:
        "examples {wildcards.dataset}"
    resources:
        gpu=GPU,
    shell:
        "{PYTHON:q} -P -m reporting.examples - {wildcards.dataset} --threads 1 <<< {SUITE:q}"


rule report:
    input:
        ancient(rules.collate.output),
        ancient(expand(rules.examples.output, dataset=suite.datasets)),
        outdated=again("runs.csv"),
    output:
        page=report(update(RESULTS + "/report.html"), caption=ABOUT("report"), category="Report"),
        digests=update(RESULTS + "/" + digests.NAME),
    message:
        "report " + RESULTS
    shell:
        "{PYTHON:q} -P -m reporting.page - <<< {SUITE:q} > /dev/null"
        " && {PYTHON:q} -P -m analysis.digests - <<< {SUITE:q}"
