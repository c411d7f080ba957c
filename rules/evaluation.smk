# Attacks. They are not timed: they share a CPU's cores, but no GPU.


rule evaluate:
    input:
        data=lambda w: needed(ATTACKED.format(w=w), suite.data_file(w.dataset, "test")),
        record=ancient("<results>/{dataset}/{variant}/seed{seed}/train.json"),
        weights=ancient("<results>/{dataset}/{variant}/seed{seed}/model.safetensors"),
        outdated=lambda w: again(ATTACKED.format(w=w)),
    output:
        record=update("<results>/{dataset}/{variant}/seed{seed}/evaluate/{attack}.json"),
        verdicts=update("<results>/{dataset}/{variant}/seed{seed}/evaluate/{attack}.robust.npy"),
    log:
        "<logs>/evaluate/{dataset}/{variant}/seed{seed}/{attack}.log",
    threads: 1
    resources:
        gpu=1,
    params:
        suite=SUITE,
    message:
        "evaluate {wildcards.dataset} {wildcards.variant} seed {wildcards.seed} {wildcards.attack}"
    shell:
        "{PYTHON:q} -P -m evaluation.run {params.suite:q} {wildcards.dataset}/{wildcards.variant}/seed{wildcards.seed}"
        " {wildcards.attack} --threads {threads} 2>&1 | tee -i {log:q}"
