# Digests decide what is made again, not times. Every input of the other rules is `ancient`; what TODO says must be made
# again has one input more, a file that nobody keeps. The profile forces the rule that makes it (forcerun), and `all`
# asks for it; whatever depends on it is made with it. `snakemake -n` so shows why something is made again.
OUTDATED = f"{RESULTS}/.outdated"
TRAINED = "{w.dataset}/{w.variant}/seed{w.seed}/train.json"
ATTACKED = "{w.dataset}/{w.variant}/seed{w.seed}/evaluate/{attack}.json"

# Inputs of the job that makes these files of the suite's results: what has it made again; data, only where one of them is
# to be made. The suite's copy is made by no job, but whenever Snakemake starts one.
marked = lambda path: path in TODO and (path == claim.COPY or (RESULTS / path).exists())
again = lambda *paths: [f"{OUTDATED}/{file}" for path in paths for file in outdated.along_with(path) if marked(file)][
    :1
]
needed = lambda file, *paths: [ancient(file)] if any(path in TODO for path in paths) else []
attacked = lambda w: [ATTACKED.format(w=w, attack=attack) for attack in suite.attacks]


rule outdated:
    output:
        temp(touch("<results>/.outdated/{path}")),
    log:
        "<logs>/outdated/{path}.log",
    params:
        why=lambda w: TODO[w.path],
    message:
        "outdated {wildcards.path}: {params.why}"
    shell:
        "echo {params.why:q} > {log:q}"
