# The Snakefile's last stages: what people read, from the records. Names in capitals are the Snakefile's.
TABLES = ["robustness", "cost", "mplus_effect", "literature"]
ABOUT = "templates/captions/{}.rst".format  # of the page that `snakemake --report` makes


rule collate:
    input:
        [f"{RESULTS}/{run.folder}/evaluate/{attack}.json" for run in suite.runs() for attack in suite.attacks],
        published=sorted(map(str, Path("results/reference").glob("*.[cy]*"))),  # published.csv and sources.yaml
    output:
        runs=report(RESULTS + "/runs.csv", caption=ABOUT("runs"), category="Records"),
        summary=RESULTS + "/summary.txt",
        tables=report(expand(RESULTS + "/tables/{t}.csv", t=TABLES), caption=ABOUT("tables"), category="Tables"),
        typeset=expand(RESULTS + "/tables/{t}.{format}", t=TABLES, format=["md", "tex"]),
        plots=report(directory(RESULTS + "/plots"), patterns=["{p}.svg"], caption=ABOUT("plots"), category="Plots"),
    params:
        suite=suite.resolved,
    message:
        "collate " + RESULTS
    shell:
        "{PYTHON} -m evaluation.collate - <<< {SUITE:q} > {output.summary}"


rule sheet:
    input:
        RESULTS + "/runs.csv",  # has the digests of the weights, and is made again when an attack is
        data=ancient(suite.data_file("{dataset}", "test")),
    output:
        multiext(RESULTS + "/sheets/{dataset}", ".png", ".json"),
    message:
        "sheet {wildcards.dataset}"
    resources:
        gpu=GPU,
    shell:
        "{PYTHON} -m evaluation.sheet - {wildcards.dataset} --threads 1 <<< {SUITE:q}"


rule report:
    input:
        rules.collate.output,
        expand(rules.sheet.output, dataset=suite.datasets),
    output:
        report(RESULTS + "/report.html", caption=ABOUT("report"), category="Report"),
    message:
        "report " + RESULTS
    shell:
        "{PYTHON} -m evaluation.report - <<< {SUITE:q} > /dev/null"
