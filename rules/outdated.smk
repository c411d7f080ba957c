# Digests decide what is made again, not times. Every input of the other rules is `ancient`; what TODO says must be made
# again has one input more, a file that nobody keeps. The profile forces the rule that makes it (forcerun), and with it
# whatever depends on it. `snakemake -n` so shows why something is made again. Names in capitals are the Snakefile's.
OUTDATED = RESULTS + "/.outdated"

# Inputs of the job that makes a file of the suite's results: what has it made again; data, only where it is to be made.
again = lambda *paths: [f"{OUTDATED}/{path}" for path in paths if path in TODO and Path(RESULTS, path).exists()][:1]
needed = lambda path, file: [ancient(file)] if path in TODO else []


rule outdated:
    output:
        temp(touch(OUTDATED + "/{path}")),
    params:
        why=lambda w: TODO[w.path],
    message:
        "outdated {wildcards.path}: {params.why}"
