# Images: prepared files of both splits, made of raw files whose checksums are the publisher's.


rule data:
    output:
        train=suite.data_file("{dataset}", "train"),
        test=suite.data_file("{dataset}", "test"),
    log:
        "<logs>/data/{dataset}.log",
    priority: 2  # what cannot be had should be known before anything is trained
    params:
        folder=lambda w: str(suite.data_folder),
        mirrors=lambda w: suite.mirrors.get(w.dataset, []),
        source=lambda w: suite.source_arguments(w.dataset),  # where a user's own images are
    message:
        "data {wildcards.dataset}"
    shell:
        "{PYTHON:q} -P -m experiment.data {wildcards.dataset} --data-dir {params.folder:q} --mirror {params.mirrors:q}"
        " {params.source:q} 2>&1 | tee -i {log:q}"
