# What people read, made from the records.
TABLES = ["robustness", "cost", "effect", "literature"]
ABOUT = "../reporting/templates/captions/{}.rst".format  # of the page that `snakemake --report` makes


rule collate:
    input:
        ancient([f"<results>/{file}" for file in digests.files_of_runs(suite)]),
        outdated=again("runs.csv"),
    output:
        runs=report(update("<results>/runs.csv"), caption=ABOUT("runs"), category="Records"),
        summary=update("<results>/summary.txt"),
        tables=report(update(expand("<results>/tables/{t}.csv", t=TABLES)), caption=ABOUT("tables"), category="Tables"),
        typeset=update(expand("<results>/tables/{t}.{format}", t=TABLES, format=["md", "tex"])),
        plots=report(
            update(directory("<results>/plots")), patterns=["{p}.svg"], caption=ABOUT("plots"), category="Plots"
        ),
    log:
        "<logs>/collate.log",
    params:
        suite=SUITE,
    message:
        f"collate {RESULTS}"
    shell:
        "{PYTHON:q} -P -m reporting.collate {params.suite:q} 2>&1 > {output.summary:q} | tee -i {log:q}"


rule examples:
    input:
        ancient("<results>/runs.csv"),  # has the digests of the weights
        data=lambda w: needed(suite.data_file(w.dataset, "test"), f"examples/{w.dataset}.json"),
        outdated=lambda w: again(f"examples/{w.dataset}.json"),
    output:
        update(multiext("<results>/examples/{dataset}", ".png", ".json")),
    log:
        "<logs>/examples/{dataset}.log",
    threads: 1
    resources:
        gpu=1,
    params:
        suite=SUITE,
    message:
        "examples {wildcards.dataset}"
    shell:
        "{PYTHON:q} -P -m reporting.examples {params.suite:q} {wildcards.dataset} --threads {threads}"
        " 2>&1 | tee -i {log:q}"


rule report:
    input:
        ancient(rules.collate.output),
        ancient(expand(rules.examples.output, dataset=suite.datasets)),
        outdated=again("report.html"),
    output:
        page=report(update("<results>/report.html"), caption=ABOUT("report"), category="Report"),
        digests=update(f"<results>/{digests.NAME}"),
    log:
        "<logs>/report.log",
    params:
        suite=SUITE,
    message:
        f"report {RESULTS}"
    shell:
        "{{ {PYTHON:q} -P -m reporting.page {params.suite:q} > {log:q}"
        " && {PYTHON:q} -P -m analysis.digests {params.suite:q}; }} 2>&1 | tee -i -a {log:q}"
