# The suite, read and checked before anything else, and names that all rules share; those in capitals are used elsewhere.
import os
import shutil
import sys
from pathlib import Path

from analysis import digests, outdated
from experiment import claim, slots, strict_yaml
from experiment.errors import UserError
from experiment.lock import hold
from experiment.suite import Suite

if not workflow.overwrite_configfiles:  # a suite given by --configfile must not be merged into the default one

    configfile: f"{workflow.basedir}/configs/quick.yaml"


try:
    for file in workflow.configfiles:  # Snakemake's own reader keeps the last of two equal keys and says nothing
        strict_yaml.read(file)
    suite = Suite.from_mapping(config, ", ".join(map(str, workflow.configfiles)))
    RESULTS = Path("results", suite.name)
    claim.check(RESULTS, workflow.configfiles)
    suite.check_files()
    TODO = outdated.reasons(suite, RESULTS) if workflow.is_main_process else {}
except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

os.environ.update(PYTHONPATH=workflow.basedir)  # results lie in the working directory, sources in the project
PYTHON = sys.executable
SUITE = RESULTS / claim.GIVEN  # what jobs read
backups = lambda: workflow.persistence.path / "backups" / RESULTS  # Snakemake's, of what running jobs update
LOCKS = []  # held until this process ends


pathvars:
    results=str(RESULTS),
    logs="<results>/logs",


wildcard_constraints:
    dataset="[^/]+",
    variant="[^/]+",
    seed="[0-9]+",
