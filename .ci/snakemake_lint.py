"""What `snakemake --lint` says of the workflow, less what is so on purpose; exit status 1 if anything is left.

python .ci/snakemake_lint.py          (`make lint` runs this)
"""

import subprocess
import sys

ON_PURPOSE = {
    "Specify a conda environment or container": "there is one, which `make env` makes of constraints.txt",
    "Shell command directly uses variable PYTHON": "that environment's interpreter",
}


def main() -> None:
    command = [sys.executable, "-m", "snakemake", "--lint"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ended.returncode and "Lints for " not in ended.stdout:
        sys.exit(ended.stdout)
    where, left = "", []
    for line in ended.stdout.splitlines():
        if line.startswith("Lints for "):
            where = line.removeprefix("Lints for ").rstrip(":")
        elif line.startswith("    * ") and not any(known in line for known in ON_PURPOSE):
            left.append(f"{where}: {line.removeprefix('    * ').rstrip(':')}")
    if left:
        sys.exit("\n".join(left))


if __name__ == "__main__":
    main()
