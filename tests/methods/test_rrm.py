"""RRM against a second, naive implementation, and a run of it that learns from another run of its suite."""

import pytest
import tiny
import torch
from reference import EPS, Reference, assert_agrees, cross_entropy, new_network, trained

from analysis.results import collate
from experiment import consistency, record
from experiment.effort import Effort
from experiment.errors import UserError
from experiment.suite import Suite
from reporting.captions import describe_teachers
from training import run as training_run

NONE = Effort(0, EPS)


def rrm(label_weight):
    """Vaishnavi et al., 2022, as in l_inf/train_rrm.py of Ethos-lab/robust-representation-matching."""
    reference, teacher = Reference(), new_network(seed=1).eval()

    def train_minibatch(images, labels):
        reference.network.zero_grad()
        robust = teacher.body(teacher.first_layer(images)).detach()
        features = reference.network.body(reference.network.first_layer(images))
        reference.logits = reference.network.classifier(features)
        lengths = features.square().sum(1).sqrt(), robust.square().sum(1).sqrt()
        alike = (features * robust).sum(1) / (lengths[0] * lengths[1])
        reference.loss = label_weight * cross_entropy(reference.logits, labels) - alike.mean()
        reference.loss.backward()
        reference.note(labels)
        reference.update()

    return reference.train(train_minibatch)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("label_weight", [0.005, 1.0])
def test_it_is_the_authors_algorithm(label_weight):
    assert_agrees(rrm(label_weight), "rrm", NONE, label_weight=label_weight)


@pytest.mark.usefixtures("float64")
def test_a_student_of_itself_has_no_features_to_learn():
    """With a teacher of the student's own features the cosine is 1 and its gradient 0."""
    features = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    alike = torch.nn.functional.cosine_similarity(features, features.detach(), dim=1, eps=1e-6).mean()
    (gradient,) = torch.autograd.grad(alike, features)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    assert not torch.equal(*(trained("rrm", NONE, label_weight=w)[0].classifier.weight for w in (0.0, 1.0)))


# -- the teacher -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.prepared_digits(tmp_path_factory.mktemp("data"))


def folder_of(results, suite, label):
    return results / suite.name / f"digits/{label}/seed0"


def test_what_the_teacher_cost_is_beside_the_student_s_and_in_total(data, tmp_path):
    suite = tiny.suite(data, "rrm")
    student = tiny.record(tiny.train(suite, tmp_path))
    teacher = tiny.record(folder_of(tmp_path, suite, "teacher"))
    assert student["teacher"]["weights_sha256"] == teacher["weights_sha256"]
    assert student["teacher"]["variant"] == "teacher"
    assert student["spec"]["teacher"] == teacher["spec"]
    own = student["cost"]["compute"]
    assert own < 4 * 1.5  # epochs; a forward and a full backward, and a forward of the teacher
    rows = collate(suite, tmp_path / suite.name).runs.set_index("variant")
    for cost in ("compute", "seconds"):
        of_it = rows.loc["it"].iloc[0]
        assert of_it[cost] == student["cost"][cost] + teacher["cost"][cost]
        assert of_it[f"teacher_{cost}"] == teacher["cost"][cost]
    assert rows.loc["teacher", "teacher_compute"].isna().all()
    (said,) = describe_teachers(collate(suite, tmp_path / suite.name).runs)
    shares = f"{teacher['cost']['compute']:.4g} of {own + teacher['cost']['compute']:.4g} ordinary epochs"
    assert said.startswith(f"Costs of it (digits) hold those of the variant that it learnt from: on average {shares}")


def test_a_teacher_may_be_another_network_whose_compute_is_converted_and_whose_features_are_as_many(data, tmp_path):
    content = tiny.content(data, "rrm")
    student, teacher = content["variants"]
    teacher["network"] = {"width": 8}
    with pytest.raises(
        UserError, match="its teacher digits/teacher/seed0 has 128 features and it has 256; they must be"
    ):
        tiny.train(Suite.from_mapping(content), tmp_path / "other")
    teacher["network"] = {"activation": "silu"}
    suite = Suite.from_mapping(content)
    found = tiny.record(tiny.train(suite, tmp_path / "same"))
    own = tiny.record(folder_of(tmp_path / "same", suite, "teacher"))
    assert found["teacher"]["cost"]["compute"] == own["cost"]["compute"]  # as many operations
    assert own["spec"]["network"] == {**found["spec"]["network"], "activation": "silu"}
    small = Suite.from_mapping(content | {"network": {"name": "small_cnn", "width": 8}})
    run, of_teacher = small.runs()
    assert of_teacher.spec["network"]["width"] == run.spec["network"]["width"] == 8


def test_a_student_is_trained_again_where_its_teacher_is_another(data, tmp_path):
    suite = tiny.suite(data, "rrm")
    folder = tiny.train(suite, tmp_path)
    run, of_teacher = suite.runs()
    assert suite.teacher(run) == of_teacher
    assert consistency.reason_to_train(suite, run, folder) is None
    taught = folder_of(tmp_path, suite, "teacher") / "train.json"
    record.write(taught, record.read(taught) | {"weights_sha256": "0" * 64})
    assert (
        consistency.reason_to_train(suite, run, folder)
        == "its teacher's weights are not those that it was trained with"
    )
    found = collate(suite, tmp_path / suite.name)
    assert "it" not in set(found.runs["variant"])
    assert any("its teacher's weights are not those" in problem for problem in found.problems)
    silent = {key: value for key, value in record.read(folder / "train.json").items() if key != "teacher"}
    said = "it does not say what it learnt from"
    assert consistency.reason_of_teacher(suite, run, silent, tmp_path / suite.name) == said
    taught.unlink()
    assert "its teacher cannot be used" in consistency.reason_to_train(suite, run, folder)
    other = tiny.content(data, "rrm")
    other["variants"][1]["steps"] = {"rule": "constant", "steps": 1}
    other = Suite.from_mapping(other)
    assert "spec.teacher.steps.steps is 7" in consistency.reason_to_train(other, next(other.runs()), folder)


def test_a_teacher_of_another_number_of_images_is_refused(data):
    content = tiny.content(data, "rrm")
    content["variants"][1]["training"] = {"max_train_images": 30}
    with pytest.raises(
        UserError, match="its teacher, teacher, has another training.max_train_images; both must have one"
    ):
        Suite.from_mapping(content)


def test_a_student_without_a_trained_teacher_is_refused(data, tmp_path):
    suite = tiny.suite(data, "rrm")
    run, _ = suite.runs()
    folder = folder_of(tmp_path, suite, "it")
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="its teacher digits/teacher/seed0 is not trained; train that first"):
        training_run.train(suite, run, folder)


@pytest.mark.fault("input")
@pytest.mark.parametrize(
    ("method", "teacher", "of_teacher", "said"),
    [
        ("rrm", None, None, "variant it: teacher is None; rrm needs another variant's label"),
        ("rrm", "it", None, "variant it: teacher is 'it'; rrm needs another variant's label"),
        ("rrm", "nobody", None, "variant it: teacher is 'nobody'; rrm needs another variant's label"),
        ("pgd", "other", None, "variant it: teacher is 'other', but pgd has none"),
        ("rrm", "other", "it", "its teacher, other, has a teacher itself; name another"),
    ],
)
def test_a_teacher_that_makes_no_sense_is_refused_in_a_sentence(data, method, teacher, of_teacher, said):
    content = tiny.content(data)
    other = {"label": "other", "method": "rrm" if of_teacher else "pgd", "teacher": of_teacher}
    content["variants"] = [{"label": "it", "method": method, "teacher": teacher}, other]
    with pytest.raises(UserError) as caught:
        Suite.from_mapping(content)
    assert said in str(caught.value)


def test_a_rule_that_means_nothing_for_a_method_is_refused_in_a_sentence(data):
    with pytest.raises(UserError, match="has the rule mplus, which means nothing for rrm; it has constant alone"):
        tiny.suite(data, "rrm", "mplus")
    content = tiny.content(data, "rrm")
    content["variants"][0]["steps"] = {"steps": 1}
    with pytest.raises(UserError, match="has 1 steps, but rrm takes 0 at most"):
        Suite.from_mapping(content)
