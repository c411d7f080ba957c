"""Whatever a user writes: a valid suite, whose runs can be begun, or one sentence; never another exception."""

import copy
import datetime
import json
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import methods
from evaluation.chunks import chunk_seed
from experiment import method_facts, plugins, strict_yaml
from experiment.errors import UserError
from experiment.suite import ROOT, Suite
from methods.new import DEFAULTS
from steps import Statistics

pytestmark = pytest.mark.fault("input")
QUICK = (ROOT / "configs" / "quick.yaml").read_bytes()
RICH = yaml.safe_load(QUICK) | {
    "mirrors": {"digits": ["file:///tmp/mirror"]},
    "threads": None,
    "checkpoint_seconds": 60,
    "evaluation": {
        "attacks": [
            "clean",
            "fgsm",
            {"name": "pgd-20", "step_size": "0.25 eps", "restarts": 2, "seed": 1},
            "autoattack",
        ],
        "max_test_images": 100,
        "equivalence_margin": 1,
    },
    "variants": [
        {"label": "yopo", "method": "yopo", "options": {"inner_steps": 3, "divide_lr": True}, "base": "fast"},
        {"label": "fast", "method": "fast", "options": {"start": "previous"}, "training": {"epochs": 3}},
        {"label": "noise", "method": "n_fgsm", "options": {"noise": 2.0}, "steps": {"steps": 1, "step_size": "1 eps"}},
        {"label": "every", "method": "deat", "steps": {"rule": "every", "first": 1, "most": 5, "d": 3}},
        {"label": "accuracy", "method": "pgd", "steps": {"rule": "accuracy", "threshold": 0.4}},
        {"label": "amata", "method": "pgd", "steps": {"rule": "amata", "total": "2.5 eps"}},
        {"label": "mplus", "method": "pgd", "steps": {"rule": "mplus", "gamma": 1.01, "guard": True}},
        {"label": "early", "method": "free", "steps": {"rule": "mplus-2021", "host": False, "step_size": 0.05}},
    ],
}
RICH["training"] |= {"schedule": {"name": "multistep", "milestones": [0.5, 0.8], "factor": 0.1}}

TEXTS = ["nan", "inf", "-inf", "1e400", "1e-400", "8/255", "1/0", "0.25 eps", "eps", "-1 eps", "1e999999999", "8/255/2"]
TEXTS += ["pgd-7", "clean", "autoattack", "pgd-0", "margin-", "fgsm-2", "pgd-99999999999999999999", "reference", "best"]
TEXTS += ["..", "~", "~x", "d{x}", "{", "ünï", "--help", "-", "/", "null", "True", "1.0", "010", "__class__", "%s"]
TEXTS += ["１", "fast", "mplus", "multistep", "cyclic", "constant", "every", "svhn", "digits", "last", "none", "zero"]
words = st.sampled_from([*TEXTS, "", " ", "a\nb", "\0", "\ud800", "\u202e", "x" * 300, "x" * 100_000, "9" * 5000])
numbers = st.one_of(
    st.integers(),
    st.integers(-3, 300),
    st.floats(),
    st.floats(0, 2),
    st.sampled_from([2**31, 2**32, 2**53, 2**63, 2**64, 10**400, -(10**400), 1437, 1436, 1238]),
    st.sampled_from([1e308, 5e-324, -0.0, 1e-45]),
)
odd = st.sampled_from([None, True, False, datetime.date(2024, 1, 2), b"\xff", (1,), frozenset({1})])
scalars = st.one_of(numbers, words, odd, st.text(max_size=20))
keys = st.one_of(words, st.sampled_from(["rule", "steps", "name", "seed", "step_size", 1, None, 0.5]))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


def deep(levels: int):
    inner: list = []
    for _ in range(levels):
        inner = [inner]
    return inner


def referring_to_itself():
    inner: list = []
    inner.append(inner)
    return inner


def places(part, path=()):
    """The path of everything in a content but itself."""
    for key, inner in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def mutated(draw, content, wrong=values):
    """The content with up to three things in it replaced, taken out, added or said twice."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        paths = list(places(content))
        if not paths:
            break
        *parents, last = draw(st.sampled_from(paths))
        target = content
        for key in parents:
            target = target[key]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "twice"])):
            case "replace":
                target[last] = draw(wrong)
            case "remove":
                del target[last]
            case "add" if isinstance(target, dict):
                target[draw(keys)] = draw(values)
            case _ if isinstance(target, list):
                target.append(copy.deepcopy(target[last]))
    return content


def outcome(make):
    """What `make` returns, or None where it refuses in one sentence; whatever else it raises is the test's failure."""
    try:
        return make()
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert 10 < len(said) < 500
    return None


def begun(suite: Suite) -> None:
    """Do with a valid suite what is done before the first minibatch and the first attack."""
    assert Suite.from_mapping(json.loads(json.dumps(suite.resolved))).resolved == suite.resolved
    for name in suite.attacks:
        torch.Generator().manual_seed(chunk_seed(suite.attack(name), 10_000))
    for run in suite.runs():
        assert len(run.folder) < 400
        suite.data_file(run.dataset, "train")
        training = run.spec["training"]
        rule = plugins.of_spec("steps", run.spec["steps"], eps=run.spec["threat"]["eps"], epochs=training["epochs"])
        least = methods.load(run.spec["method"]).least_steps
        for epoch in range(min(training["epochs"], 5)):
            effort = rule.effort_for(epoch)
            assert effort.steps >= least
            assert effort.step_size > 0
            rule.end_epoch(epoch, Statistics(1.0, 0.5))


@pytest.mark.slow
@settings(max_examples=400)
@given(mutated(RICH) | mutated(RICH, st.integers(0, 12) | st.floats(0, 1) | st.booleans()))
def test_a_suite_of_any_content_can_be_begun_or_is_refused_in_a_sentence(content):
    suite = outcome(lambda: Suite.from_mapping(content, "it.yaml"))
    if suite is not None:
        begun(suite)


@pytest.mark.parametrize("content", [deep(30), deep(900), referring_to_itself(), [0] * 200_000, {"suite": deep(900)}])
def test_a_content_that_is_too_much_is_refused_in_a_sentence(content):
    assert outcome(lambda: Suite.from_mapping(content)) is None


SIGNS = [b"\t", b": ", b"- ", b"\xff", b"\0", b"*a", b"&a ", b"<<: ", b"? "]
SIGNS += [b"!!int ", b"!!float ", b"!!bool ", b"!!binary ", b"!!set ", b"!!timestamp "]
SIGNS += [bytes([sign]) for sign in b"[]{}\n\"'|>%@`#,"]


@st.composite
def damaged(draw, text):
    """The bytes of a file with a few of them replaced, taken out or put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        put = draw(st.binary(max_size=4) | st.sampled_from(SIGNS))
        text = text[:start] + put + text[start + draw(st.integers(0, 6)) :]
    return text


@pytest.mark.slow
@settings(max_examples=300)
@given(damaged(QUICK) | damaged(json.dumps(RICH).encode()) | st.binary(max_size=60))
def test_a_suite_s_file_of_any_bytes_can_be_begun_or_is_refused_in_a_sentence(content):
    suite = outcome(lambda: Suite.from_mapping(strict_yaml.parse(content, "it.yaml"), "it.yaml"))
    if suite is not None:
        begun(suite)


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """A folder of the project's form with one method, whose defaults.yaml is written anew for every example."""
    root = tmp_path_factory.mktemp("project")
    (root / "methods" / "mine").mkdir(parents=True)
    (root / "methods" / "mine" / "method.py").write_text("class Mine(Method):\n    pass\n")
    return root


def with_defaults(root: Path, content: bytes) -> None:
    (root / "methods" / "mine" / "defaults.yaml").write_bytes(content)
    suite = yaml.safe_load(QUICK) | {"variants": [{"label": "it", "method": "mine", "steps": {"rule": "mplus"}}]}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("experiment.method_facts.ROOT", root)
        outcome(lambda: method_facts.of("mine"))
        outcome(lambda: Suite.from_mapping(suite))


@given(damaged(DEFAULTS.encode()))
def test_defaults_of_any_bytes_are_read_or_refused_in_a_sentence(mine, content):
    with_defaults(mine, content)


@given(
    mutated(yaml.safe_load(DEFAULTS) | {"options": {"noise": 2.0, "inner_steps": 3, "carry": True, "start": "zero"}})
)
def test_defaults_of_any_content_are_read_or_refused_in_a_sentence(mine, content):
    try:
        text = yaml.safe_dump(content, allow_unicode=True).encode()
    except (yaml.YAMLError, UnicodeEncodeError):
        return  # what YAML cannot write cannot be in the file
    with_defaults(mine, text)


@pytest.mark.parametrize("text", ["1e999999999", "9" * 100_000, "1/" + "0" * 100, "٣/٤", "0x1", "--1", "1 / 2 eps"])
def test_a_quantity_is_a_number_or_refused_at_once(text):
    outcome(lambda: Suite.from_mapping(RICH | {"threat": {"eps": text}}))
