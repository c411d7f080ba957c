"""An attack twice in a suite, told apart by its label, and one in a ball of its own: from the command to the table."""

import json
import shutil

import numpy as np
import pytest
import yaml

from analysis.results import collate
from evaluation import run
from experiment import record
from experiment.errors import UserError
from experiment.suite import Suite

ATTACKS = [
    "pgd-3",
    {"name": "pgd-3", "restarts": 5, "label": "pgd-3-5"},
    {"name": "pgd-3", "eps": "4/255", "label": "pgd-3-near"},
    {"name": "square", "queries": 20},
]


@pytest.fixture
def suite_of(checkpoint):
    def made(*attacks):
        content = json.loads(json.dumps(checkpoint.suite.resolved))
        content["evaluation"]["attacks"] = [*attacks]
        return Suite.from_mapping(content)

    return made


def test_labels_name_the_files_the_records_and_the_rows_and_each_attack_is_as_the_suite_says(
    checkpoint, suite_of, tmp_path
):
    suite, results = suite_of(*ATTACKS), tmp_path / "results"
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite.resolved))
    folder = results / suite.name / checkpoint.run.folder
    shutil.copytree(checkpoint.folder, folder)
    assert suite.attacks == ["pgd-3", "pgd-3-5", "pgd-3-near", "square"]
    for label in suite.attacks:
        run.main([str(tmp_path / "suite.yaml"), checkpoint.run.folder, label, "--results", str(results)])
    made = {label: record.read(folder / "evaluate" / f"{label}.json") for label in suite.attacks}
    robust = {label: np.load(folder / "evaluate" / f"{label}.robust.npy") for label in suite.attacks}
    assert {label: found["attack"] for label, found in made.items()} == {label: label for label in suite.attacks}
    assert [found["settings"]["name"] for found in made.values()] == ["pgd-3", "pgd-3", "pgd-3", "square"]
    assert [found["settings"].get("restarts") for found in made.values()] == [1, 5, 1, None]
    assert made["pgd-3-near"]["settings"]["threat"]["eps"] == pytest.approx(4 / 255)
    assert made["pgd-3-near"]["settings"]["step_size"] == pytest.approx(1 / 255)  # a quarter of its own radius
    assert made["pgd-3"]["settings"]["threat"]["eps"] == 0.1
    assert not (robust["pgd-3-5"] & ~robust["pgd-3"]).any()
    assert robust["pgd-3-near"].sum() > robust["pgd-3"].sum()
    rows = collate(suite, results / suite.name).runs.set_index("attack")
    assert list(rows["attack_restarts"].loc[["pgd-3", "pgd-3-5"]]) == [1, 5]
    assert rows["correct"].to_dict() == {label: found["correct"] for label, found in made.items()}


def test_an_attack_twice_without_a_label_is_an_error_of_one_sentence(suite_of):
    with pytest.raises(UserError, match="label has 'pgd-3' twice"):
        suite_of("pgd-3", {"name": "pgd-3", "restarts": 2})
