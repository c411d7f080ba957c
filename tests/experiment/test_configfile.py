"""A suite's file that cannot be read is refused with its name and line, by hand and by Snakemake alike."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiment import strict_yaml
from experiment.configfile import check
from experiment.errors import UserError
from experiment.suite import ROOT, Suite

pytestmark = pytest.mark.fault("input")
QUICK = (ROOT / "configs" / "quick.yaml").read_bytes()
LINES = QUICK.count(b"\n")
UNREADABLE = {
    "typo": (QUICK + b"foo: [1\n", f", line {LINES + 2}: .*of line {LINES + 1}"),
    "tab": (b"suite: a\n\tseeds: [0]\n", ", line 2: "),
    "latin": (QUICK + b"# d\xe9j\xe0\n", f", line {LINES + 1}: the byte 0xe9 is not UTF-8"),
    "utf16": ("suite: a\n".encode("utf-16"), ", line 1: the byte 0xff is not UTF-8"),
    "null": (b"# a\nsuite: \0\n", ", line 2: not readable as YAML .*x00"),
    "date": (b"seeds: [0]\nsuite: 2024-13-45\n", ", line 2: .*'2024-13-45' cannot be read as timestamp"),
    "int": (b"seeds: [0]\nsuite: !!int a\n", ", line 2: .*'a' cannot be read as int"),
    "empty int": (b'suite: !!int ""\n', ", line 1: .*cannot be read as int"),
    "bool": (b"suite: !!bool a\n", ", line 1: .*'a' cannot be read as bool"),
    "object": (b"suite: !!python/object/apply:os.getcwd []\n", ", line 1: "),
    "anchor": (b"suite: *a\n", ", line 1: .*undefined alias"),
    "key": (b"? [a]\n: b\n", ", line 1: .*unhashable"),
    "twice": (b"suite: a\nsuite: b\n", ", line 2: .*the key 'suite' twice"),
    "json twice": (b'{"suite": "a",\n "suite": "b"}', ", line 2: .*the key 'suite' twice"),
    "deep": (b"[" * 5000, ": .*nested too deeply"),
    "long number": (b"seeds: [" + b"1" * 5000 + b"]", ", line 1: .*cannot be read as int"),
    "nothing": (b"", " is empty"),
    "comment": (b"# suite: a\n", " is empty"),
    "list": (b"[1, 2]\n", " is \\[1, 2\\]; it must be a mapping"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_yaml_is_refused_in_one_sentence_with_its_file_and_line(tmp_path, name):
    content, says = UNREADABLE[name]
    file = tmp_path / "suite.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"suite.yaml{says}") as caught:
        check(str(file))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_file_that_is_none_is_refused_with_its_name(tmp_path, kind):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"{kind}: not readable"):
        check(str(tmp_path / kind))


@pytest.mark.parametrize("name", ["typo", "latin", "nothing", "date", "list"])
@pytest.mark.workflow
def test_snakemake_and_a_job_refuse_it_alike(tmp_path, name):
    content, says = UNREADABLE[name]
    file = tmp_path / "suite.yaml"
    file.write_bytes(content)
    for command in (
        ["snakemake", "-s", str(ROOT / "Snakefile"), "-n", "--configfile", str(file)],
        ["training.run", str(file), "digits/pgd-7/seed0"],
    ):
        done = ended(command, tmp_path)
        assert done.returncode not in (0, None)
        assert len([line for line in done.stdout.splitlines() if line.startswith("error:")]) == 1
        assert "suite.yaml" in done.stdout
        assert "Traceback" not in done.stdout


@pytest.mark.workflow
def test_the_default_suite_is_refused_alike(tmp_path):
    for part in ("Snakefile", "configs", "profiles", "experiment", "methods", "evaluation"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, tmp_path / part)
    (tmp_path / "configs" / "quick.yaml").write_bytes(UNREADABLE["typo"][0])
    done = ended(["snakemake", "-n"], tmp_path, tmp_path)
    assert done.returncode == 2
    assert f"error: configs/quick.yaml, line {LINES + 2}: not readable as YAML" in done.stdout
    assert "Traceback" not in done.stdout


def ended(command: list[str], folder: Path, project: Path = ROOT) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


def test_a_mistake_in_a_key_names_the_file_too(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes(QUICK.replace(b"epochs: 20", b"epochs: none"))
    with pytest.raises(UserError, match=r"mine\.yaml: training\.epochs is 'none'; it must be a whole number"):
        Suite.load(file)


def test_json_is_read_as_json_whatever_yaml_would_make_of_it(tmp_path):
    said = b'{\n\t"noise": 5e-05,\n\t"text": "5e-05",\n\t"list": [1, null, true]\n}\n'
    assert strict_yaml.parse(said, "it") == {"noise": 5e-05, "text": "5e-05", "list": [1, None, True]}
