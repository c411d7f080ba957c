# Attacks, all those of a run in one job: most take less time than starting a process. They are not timed: they share a CPU's
# cores, but no GPU. Where one fails, what the others left stays: the profile says keep-incomplete, and without a backup
# Snakemake puts nothing back over what is new.
OF_RUN = "<results>/{{dataset}}/{{variant}}/seed{{seed}}/evaluate/{attack}"


rule evaluate:
    input:
        data=lambda w: needed(suite.data_file(w.dataset, "test"), *attacked(w)),
        record=ancient("<results>/{dataset}/{variant}/seed{seed}/train.json"),
        weights=ancient("<results>/{dataset}/{variant}/seed{seed}/model.safetensors"),
        outdated=lambda w: again(*attacked(w)),
    output:
        records=update(expand(f"{OF_RUN}.json", attack=suite.attacks)),
        verdicts=update(expand(f"{OF_RUN}.robust.npy", attack=suite.attacks)),
    log:
        "<logs>/evaluate/{dataset}/{variant}/seed{seed}.log",
    threads: 1
    resources:
        gpu=1,
    params:
        suite=SUITE,
        backups=lambda w: backups() / f"{w.dataset}/{w.variant}/seed{w.seed}/evaluate",
    message:
        "evaluate {wildcards.dataset} {wildcards.variant} seed {wildcards.seed}"
    shell:
        "{PYTHON:q} -P -m evaluation.run {params.suite:q} {wildcards.dataset}/{wildcards.variant}/seed{wildcards.seed}"
        " --threads {threads} 2>&1 | tee -i {log:q} || {{ rm -rf {params.backups:q}; exit 1; }}"
