# Runs. A run is timed: it has a GPU, or else its cores, to itself; on several GPUs, runs share the cores.
GPUS = workflow.global_resources["gpu"].value if "gpu" in workflow.global_resources else 0
# What the run learns from, where it has a teacher and is to be made.
TAUGHT_BY = ("train.json", "model.safetensors")
teacher_of = lambda w: suite.teacher(suite.run(f"{w.dataset}/{w.variant}/seed{w.seed}"))
taught_by = lambda w, teacher: [needed(RESULTS / teacher.folder / name, TRAINED.format(w=w)) for name in TAUGHT_BY]


rule train:
    input:
        data=lambda w: needed(suite.data_file(w.dataset, "train"), TRAINED.format(w=w)),
        teacher=lambda w: sum(taught_by(w, teacher), []) if (teacher := teacher_of(w)) else [],
        outdated=lambda w: again(TRAINED.format(w=w)),
    output:
        record=update("<results>/{dataset}/{variant}/seed{seed}/train.json"),
        epochs=update("<results>/{dataset}/{variant}/seed{seed}/epochs.csv"),
        weights=update("<results>/{dataset}/{variant}/seed{seed}/model.safetensors"),
    log:
        "<logs>/train/{dataset}/{variant}/seed{seed}.log",
    priority: 1  # a timed run waits for the machine, and would wait for an attack each time
    threads: lambda w: max(1, workflow.cores // (GPUS or slots.at_once(suite.threads)))
    resources:
        gpu=1,
    params:
        suite=SUITE,
    message:
        "train {wildcards.dataset} {wildcards.variant} seed {wildcards.seed}"
    shell:
        "{PYTHON:q} -P -m training.run {params.suite:q} {wildcards.dataset}/{wildcards.variant}/seed{wildcards.seed}"
        " --threads {threads} 2>&1 | tee -i {log:q}"
