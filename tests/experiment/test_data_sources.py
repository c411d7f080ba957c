"""Data sets of a user's own: an .npz or a folder of images is as good as a known data set, or refused in a sentence."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluation.run import evaluate
from experiment import claim, data, provenance
from experiment.consistency import reason_to_evaluate, reason_to_train
from experiment.data import check, dataset, expected_sha256, load_split, main, prepare, prepared_file
from experiment.data_sources.source import mean_and_std
from experiment.errors import UserError
from experiment.suite import Suite

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The arrays of the digits, images (N, 8, 8)."""
    folder = tmp_path_factory.mktemp("digits")
    prepare("digits", folder)
    arrays = {}
    for split in ("train", "test"):
        images, labels = load_split("digits", split, folder)
        arrays |= {f"{split}_images": images.numpy()[:, 0], f"{split}_labels": labels.numpy()}
    return arrays


def made_up(classes=3, shape=(5, 4), seed=0):
    """Arrays of 9 training and 6 test images."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", 9), ("test", 6)):
        arrays[f"{split}_images"] = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % classes
    return arrays


def npz(path, arrays, save=np.savez):
    save(path, **arrays)
    return {"name": "mine", "npz": str(path)}


def folder(path, arrays, name="{:02}".format):
    """The images of each split as files of the folder of their class."""
    for split in ("train", "test"):
        for place, (image, label) in enumerate(zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)):
            file = path / split / name(label) / f"{place:05}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    return {"name": "mine", "images": str(path)}


def prepared(entry, data_dir):
    prepare(entry, data_dir)
    return {split: load_split(entry, split, data_dir) for split in ("train", "test")}


def test_an_npz_of_the_digits_is_the_digits(digits, tmp_path):
    entry = npz(tmp_path / "digits.npz", digits)
    prepare(entry, tmp_path)
    mine, known = dataset(entry, tmp_path), dataset("digits")
    for fact in ("classes", "shape", "train_images", "test_images", "mean", "std", "class_names", "sha256"):
        assert getattr(mine, fact) == getattr(known, fact), fact


def test_a_folder_of_the_digits_holds_the_same_images_class_by_class(digits, tmp_path):
    entry = folder(tmp_path / "digits", digits)
    found = prepared(entry, tmp_path)
    for split in ("train", "test"):
        order = np.argsort(digits[f"{split}_labels"], kind="stable")
        assert np.array_equal(found[split][0].numpy()[:, 0], digits[f"{split}_images"][order])
        assert np.array_equal(found[split][1].numpy(), digits[f"{split}_labels"][order])
    mine, known = dataset(entry, tmp_path), dataset("digits")
    assert (mine.mean, mine.std, mine.shape) == (known.mean, known.std, known.shape)
    assert mine.class_names == tuple(f"{label:02}" for label in range(10))


def test_a_folder_is_read_as_torchvision_s_image_folder_reads_it(tmp_path):
    from torchvision.datasets import ImageFolder

    arrays = made_up(shape=(5, 4, 3))
    entry = folder(tmp_path / "images", arrays, name=["dog", "Cat", "emu"].__getitem__)
    (tmp_path / "images" / "train" / "Cat" / "more").mkdir()
    Image.fromarray(arrays["train_images"][0]).convert("L").save(
        tmp_path / "images" / "train" / "Cat" / "more" / "a.PNG"
    )
    (tmp_path / "images" / "train" / "Cat" / "list.txt").write_text("no image")
    found = prepared(entry, tmp_path)
    for split in ("train", "test"):
        theirs = ImageFolder(tmp_path / "images" / split)
        assert found[split][1].tolist() == theirs.targets
        for image, (picture, _) in zip(found[split][0].numpy(), theirs, strict=True):
            assert np.array_equal(image.transpose(1, 2, 0), np.asarray(picture))
    assert list(dataset(entry, tmp_path).class_names) == theirs.classes


@st.composite
def layouts(draw):
    """An npz's images and what they are as (N, C, H, W)."""
    side, kind = st.integers(4, 7), draw(st.sampled_from(["grey", "first", "last"]))
    channels = 1 if kind == "grey" else draw(st.sampled_from([1, 3]))
    shape = (2, channels, draw(side), draw(side))
    wanted = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, shape, dtype=np.uint8)
    images = {"grey": wanted[:, 0], "first": wanted, "last": np.moveaxis(wanted, 1, -1)}[kind]
    return np.asfortranarray(images) if draw(st.booleans()) else images, wanted


@given(layouts(), st.sampled_from(["u1", "i2", ">i4", "i8", "u8"]), st.sampled_from([np.savez, np.savez_compressed]))
def test_every_layout_of_an_npz_gives_the_same_images(tmp_path_factory, layout, labels, save):
    images, wanted = layout
    place = tmp_path_factory.mktemp("layout")
    labels = np.array([1, 0], dtype=labels)
    arrays = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    entry = npz(place / "mine.npz", arrays, save)
    assert dataset(entry, place).shape == wanted.shape[1:]
    found = prepared(entry, place)
    for split in ("train", "test"):
        assert np.array_equal(found[split][0].numpy(), wanted)
        assert found[split][1].tolist() == [1, 0]


@given(st.integers(0, 2**32), st.integers(2, 40), st.sampled_from([1, 3]))
def test_mean_and_std_are_those_of_the_training_pixels(seed, count, channels):
    images = np.random.default_rng(seed).integers(0, 256, (count, channels, 3, 2), dtype=np.uint8)
    mean, std = mean_and_std(images)
    pixels = (images / 255).transpose(1, 0, 2, 3).reshape(channels, -1)
    assert mean == pytest.approx(pixels.mean(1), abs=5.1e-5)
    assert std == pytest.approx(pixels.std(1, ddof=1), abs=5.1e-5)


def test_facts_that_need_no_image_are_known_before_it_is_prepared(tmp_path):
    found = dataset(npz(tmp_path / "mine.npz", made_up()) | {"augmentation": "crop", "class_names": ["a", "b", "c"]})
    assert (found.classes, found.shape, found.train_images, found.test_images) == (3, (1, 5, 4), 9, 6)
    assert (found.augmentation, found.class_names) == ("crop", ("a", "b", "c"))
    assert (found.mean, found.std, found.sha256) == ((), (), {})


def changed(**arrays):
    return lambda path: npz(path / "mine.npz", {**made_up(), **arrays})


def lacking(path):
    arrays = made_up()
    del arrays["test_labels"]
    return npz(path / "mine.npz", arrays)


def no_zip(path):
    (path / "mine.npz").write_bytes(b"no archive")
    return {"name": "mine", "npz": str(path / "mine.npz")}


def cut_off(path):
    entry = npz(path / "mine.npz", made_up(shape=(40, 40)))
    (path / "mine.npz").write_bytes((path / "mine.npz").read_bytes()[:9000])
    return entry


def no_array(path):
    entry = npz(path / "mine.npz", made_up())
    with zipfile.ZipFile(path / "mine.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path / "mine.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"nothing" if name == "train_labels.npy" else content)
    return entry


def images(change):
    def made(path):
        entry = folder(path / "mine", made_up(), name="abc".__getitem__)
        change(path / "mine")
        return entry

    return made


def other_size(path):
    Image.new("L", (9, 5)).save(path / "test" / "b" / "00001.png")


def no_image(path):
    (path / "train" / "c" / "00005.png").write_bytes(b"no image")


def half_an_image(path):
    file = path / "train" / "a" / "00000.png"
    file.write_bytes(file.read_bytes()[:-25])


def colour(path):
    Image.new("RGB", (4, 5)).save(path / "train" / "b" / "00001.png")


def deep(path):
    Image.fromarray(np.zeros((5, 4), dtype=np.uint16)).save(path / "train" / "b" / "00001.png")


def without(*parts):
    return lambda path: shutil.rmtree(path.joinpath(*parts))


def emptied(path):
    for file in (path / "test" / "b").iterdir():
        file.unlink()


OBJECTS = np.array([{"a": "dict"}] * 9, dtype=object)
BAD = {
    "a key is missing": (lacking, "mine.npz: there is no test_labels in it; it has test_images, train_images, train_l"),
    "floats": (changed(train_images=np.zeros((9, 5, 4))), "train_images is float64; it must be uint8, 0 to 255"),
    "labels of floats": (changed(test_labels=np.zeros(6)), "test_labels is float64; it must be integers"),
    "two axes": (
        changed(train_images=np.zeros((9, 20), np.uint8)),
        r"train_images is \(9, 20\); it must be \(N, H, W\)",
    ),
    "empty": (changed(test_images=np.zeros((0, 5, 4), np.uint8)), r"test_images is \(0, 5, 4\); .* not empty"),
    "other sizes": (changed(test_images=np.zeros((6, 5, 5), np.uint8)), r"test_images are \(1, 5, 5\) .* \(1, 5, 4\)"),
    "channels": (changed(train_images=np.zeros((9, 5, 4, 2), np.uint8)), "neither end is 1 or 3 channels"),
    "ambiguous": (changed(train_images=np.zeros((9, 3, 4, 3), np.uint8)), "either end could be the channels"),
    "few labels": (
        changed(train_labels=np.arange(8) % 3),
        r"train_labels is \(8,\); it must have one label for each of 9",
    ),
    "labels from 1": (
        changed(train_labels=np.arange(9) % 3 + 1),
        "train_labels has the values 1, 2, 3; they must be 0",
    ),
    "labels with gaps": (changed(train_labels=np.arange(9) % 3 * 2), "train_labels has the values 0, 2, 4; they must"),
    "one class": (changed(train_labels=np.zeros(9, int)), "train_labels has the values 0; they must be"),
    "test labels": (changed(test_labels=np.arange(6)), "test_labels reach from 0 to 5; .* from 0 to 2"),
    "negative": (changed(test_labels=np.arange(6) % 3 - 1), "test_labels reach from -1 to 1"),
    "pickled": (changed(train_labels=OBJECTS), "train_labels holds pickled Python objects, which are never loaded"),
    "no zip": (no_zip, "mine.npz is no file of numpy.savez, or a damaged one"),
    "cut off": (cut_off, "mine.npz is no file of numpy.savez, or a damaged one"),
    "no array": (no_array, "mine.npz: train_labels cannot be read"),
    "absent": (lambda path: {"name": "mine", "npz": str(path / "mine.npz")}, "data set mine: .*mine.npz is not there"),
    "constant": (
        changed(train_images=np.full((9, 5, 4), 7, np.uint8)),
        "channel 0 of the training images has one value",
    ),
    "no test split": (images(without("test")), "mine/test cannot be read .No such file or directory.; images lie in"),
    "a class lacks": (images(without("test", "b")), "mine/test has no folder 'b', a class of train; both must have"),
    "a class more": (images(without("train", "b")), "mine/train has no folder 'b', a class of test; both must have"),
    "an empty class": (images(emptied), "mine/test/b holds no image; a class must have some .*png"),
    "image sizes": (images(other_size), "test/b/00001.png has 9x5 pixels where the first image has 4x5; scale all to"),
    "an image that is none": (images(no_image), "train/c/00005.png cannot be read as an image"),
    "a damaged image": (images(half_an_image), "train/a/00000.png cannot be read as an image"),
    "a colour image": (
        images(colour),
        "train/b/00001.png has colours and the first image is grey; make all grey or all",
    ),
    "16 bits": (images(deep), "train/b/00001.png has more than 8 bits a channel"),
}


@pytest.mark.fault("input")
@pytest.mark.parametrize("what", BAD)
def test_a_source_that_will_not_do_is_refused_in_one_sentence_and_leaves_nothing(tmp_path, what):
    made, sentence = BAD[what]
    with pytest.raises(UserError, match=sentence):
        prepare(made(tmp_path), tmp_path / "data")
    assert not list(tmp_path.glob("data/**/*.*"))


@pytest.mark.fault("file")
def test_nothing_that_an_npz_holds_is_executed(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (9,)})
    content = buffer.getvalue() + pickle.dumps(Hostile())
    npz(tmp_path / "mine.npz", {key: value for key, value in made_up().items() if key != "train_labels"})
    with zipfile.ZipFile(tmp_path / "mine.npz", "a") as archive:
        archive.writestr("train_labels.npy", content)
    with pytest.raises(UserError, match="pickled Python objects"):
        prepare({"name": "mine", "npz": str(tmp_path / "mine.npz")}, tmp_path / "data")
    assert not (tmp_path / "harm").exists()


@pytest.mark.fault("input")
@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            {"name": "digits", "npz": "digits.npz"},
            "data set 'digits' of digits.npz has the name of a known one; name it",
        ),
        ({"name": "mine"}, "data set has neither of the keys npz and images; it must have one"),
        ({"name": "mine", "npz": "a", "images": "b"}, "data set has both of the keys npz and images"),
        ({"npz": "a.npz"}, "data set.name is missing"),
        ({"name": "../mine", "npz": "a.npz"}, "data set.name is '../mine'; a name is made of"),
        ({"name": "mine", "npz": "{a}.npz"}, "data set.npz is '{a}.npz'; it must be a path without the braces"),
        ({"name": "mine", "npz": "~nobody-at-all/a.npz"}, "data set.npz is .*; the home that it begins with is"),
        (
            {"name": "mine", "npz": "a.npz", "augmentation": "flip"},
            "data set.augmentation is 'flip'; it must be one of",
        ),
        ({"name": "mine", "file": "a.npz"}, "data set has the unknown key 'file'; its keys are augmentation, class_n"),
    ],
)
def test_an_entry_that_says_too_much_or_too_little_is_refused(entry, sentence):
    with pytest.raises(UserError, match=f"^{sentence}"):
        dataset(entry)


@pytest.mark.fault("input")
def test_class_names_are_as_many_as_the_classes(tmp_path):
    entry = npz(tmp_path / "mine.npz", made_up()) | {"class_names": ["a", "b"]}
    with pytest.raises(UserError, match="data set mine has 3 classes and 2 class_names"):
        dataset(entry)


def moved_on(path):
    """Give a file another time, as copying it would."""
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))


@pytest.mark.fault("stale")
@pytest.mark.parametrize("kind", ["npz", "images"])
def test_prepared_files_of_a_source_that_has_changed_are_refused_and_records_of_it_do_not_count(tmp_path, kind):
    data_dir = tmp_path / "data"
    make, path = (npz, tmp_path / "mine.npz") if kind == "npz" else (folder, tmp_path / "mine")
    entry = make(path, made_up())
    before = prepared(entry, data_dir)
    entry = make(path, {**made_up(), "train_images": 255 - made_up()["train_images"]})
    moved_on(path if kind == "npz" else path / "train" / "00" / "00000.png")
    for refused in (lambda: check(entry, data_dir), lambda: load_split(entry, "test", data_dir)):
        with pytest.raises(
            UserError, match=r"does not count: .*mine\S* is not what it was .*; delete .*prepared/mine and"
        ):
            refused()
    for file in (data_dir / "prepared" / "mine").iterdir():
        file.unlink()
    check(entry, data_dir)
    wanted = expected_sha256(dataset(entry, data_dir), "train")
    assert wanted != data.sha256(*before["train"])
    after = prepared(entry, data_dir)
    assert torch.equal(after["train"][0], 255 - before["train"][0])
    assert torch.equal(after["test"][0], before["test"][0])
    assert wanted == expected_sha256(dataset(entry, data_dir), "train") == data.sha256(*after["train"])


@pytest.mark.fault("copy")
@pytest.mark.parametrize(
    "make", [lambda path: npz(path / "m.npz", made_up()), lambda path: folder(path / "m", made_up())]
)
def test_a_source_that_was_only_copied_or_touched_or_is_gone_leaves_its_prepared_files_as_they_are(tmp_path, make):
    entry = make(tmp_path)
    before = prepared(entry, tmp_path / "data")
    facts = dataset(entry, tmp_path / "data")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "data" not in path.parts]
    for change in (moved_on, Path.unlink):
        for file in files:
            change(file)
        if change is Path.unlink:
            shutil.rmtree(tmp_path / "m", ignore_errors=True)
        check(entry, tmp_path / "data")
        assert torch.equal(load_split(entry, "test", tmp_path / "data")[0], before["test"][0])
        again = dataset(entry, tmp_path / "data")
        assert (again.mean, again.std, again.shape) == (facts.mean, facts.std, facts.shape)


@pytest.mark.fault("file")
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_no_damaged_byte_of_the_facts_changes_them_unnoticed(tmp_path_factory, place, change):
    data_dir = tmp_path_factory.mktemp("facts")
    entry = npz(data_dir / "mine.npz", made_up())
    prepare(entry, data_dir)
    right = dataset(entry, data_dir)
    path = prepared_file("mine", "train", data_dir).with_name("facts.json")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= change
    path.write_bytes(content)
    moved_on(path)
    try:
        load_split(entry, "train", data_dir)
    except UserError:
        return
    found = dataset(entry, data_dir)
    assert (found.mean, found.std, found.sha256) == (right.mean, right.std, right.sha256)


def test_the_command_prepares_a_source_and_says_so(tmp_path, capsys):
    entry = npz(tmp_path / "mine.npz", made_up())
    main(["mine", "--npz", entry["npz"], "--data-dir", str(tmp_path / "data")])
    assert capsys.readouterr().out == "data mine: 9 train + 6 test images, prepared\n"
    assert len(load_split(entry, "train", tmp_path / "data")[0]) == 9
    facts = json.loads((tmp_path / "data" / "prepared" / "mine" / "facts.json").read_text())["facts"]
    assert facts["sha256"]["test"] == data.sha256(*load_split(entry, "test", tmp_path / "data"))


@pytest.mark.parametrize("kind", ["npz", "images"])
def test_facts_are_known_without_pytorch(tmp_path, kind):
    entry = npz(tmp_path / "mine.npz", made_up()) if kind == "npz" else folder(tmp_path / "mine", made_up())
    prepare(entry, tmp_path)
    of = f"{entry!r}, {str(tmp_path)!r}"
    program = (
        f"import sys; from experiment.data import check, dataset; check({of}); "
        f"print(dataset({of}).train_images, sorted({{'torch', 'torchvision'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "9 []"


@pytest.fixture(scope="module")
def suites(digits, tmp_path_factory):
    """The folder of a project with the digits under their own name, as an .npz and as a folder; a suite of each."""
    place = tmp_path_factory.mktemp("suites")
    few = {name: values[:200] for name, values in digits.items()}
    entries = {"digits": "digits", "npz": npz(place / "digits.npz", digits), "images": folder(place / "few", few)}
    return place, {
        name: tiny.suite(place / "data", datasets=[entry], evaluation={"attacks": ["clean", "pgd-3"]})
        for name, entry in entries.items()
    }


def test_training_on_an_npz_of_the_digits_leaves_the_bits_of_training_on_the_digits(suites):
    place, made = suites
    left = {}
    for name in ("digits", "npz"):
        (dataset_name,) = made[name].datasets
        prepare(made[name].dataset(dataset_name), place / "data")
        record = tiny.record(tiny.train(made[name], place / name))
        left[name] = record["weights_sha256"], record["data_sha256"], record["validation"]
    assert left["npz"] == left["digits"]


def test_a_folder_is_trained_on_and_attacked(suites):
    place, made = suites
    suite = made["images"]
    prepare(suite.dataset("mine"), place / "data")
    where = tiny.train(suite, place / "folder")
    (run,) = suite.runs()
    record = evaluate(suite, run, "pgd-3", where)
    assert record["images"] == 200
    assert record["data_sha256"] == suite.dataset("mine").sha256["test"]
    assert reason_to_train(suite, run, where) is None
    assert reason_to_evaluate(suite, run, "pgd-3", where) is None


@pytest.mark.fault("stale")
def test_another_augmentation_or_other_images_make_a_run_anew_and_another_path_does_not(suites, digits, tmp_path):
    place, made = suites
    prepare(made["npz"].dataset("mine"), place / "data")
    where = tiny.train(made["npz"], place / "stale")
    shutil.copy(place / "digits.npz", tmp_path / "copied.npz")
    moved = {"name": "mine", "npz": str(tmp_path / "copied.npz")}
    flipped = npz(tmp_path / "flipped.npz", {**digits, "train_images": digits["train_images"][..., ::-1]})
    for entry, data_dir, why in [
        (moved, place / "data", None),
        (moved, tmp_path / "data", None),
        (
            moved | {"augmentation": "crop"},
            place / "data",
            "spec.augmentation is 'none'; in this place it must be 'crop'",
        ),
        (flipped, tmp_path / "data", "data_sha256 is '912bdf"),
    ]:
        suite = tiny.suite(data_dir, datasets=[entry], evaluation={"attacks": ["clean", "pgd-3"]})
        (run,) = suite.runs()
        found = reason_to_train(suite, run, where)
        assert found is None if why is None else found.startswith(why)


@pytest.mark.fault("input")
def test_a_suite_refuses_a_source_as_it_refuses_anything_else(tmp_path):
    entry = npz(tmp_path / "mine.npz", made_up())
    for datasets, sentence in [
        ([entry, entry], "datasets has 'mine' twice"),
        ([entry | {"npz": 5}], r"datasets\[0\].npz is 5; it must be text"),
        (["digits", {"npz": "mine.npz"}], r"datasets\[1\].name is missing"),
        ([entry], "training: 20 validation_images and 40 training images do not fit into the 9 of mine"),
        ([entry | {"npz": "none.npz"}], "data set mine: none.npz is not there"),
        (["mine"], "data set 'mine' is not known; the data sets are cifar10"),
    ]:
        with pytest.raises(UserError, match=sentence):
            tiny.suite(tmp_path / "data", datasets=datasets)
    with pytest.raises(UserError, match="data_sources has 'mine', which is not among the datasets"):
        tiny.suite(tmp_path / "data", datasets=["digits"], data_sources=[entry])
    with pytest.raises(UserError, match="data_sources is 5; it must be a list"):
        tiny.suite(tmp_path / "data", datasets=["digits"], data_sources=5)


def test_a_resolved_suite_and_the_copy_beside_its_results_are_the_suite_again(suites, monkeypatch):
    place, made = suites
    for name in ("npz", "images"):
        again = Suite.from_mapping(made[name].resolved)
        assert again.resolved == made[name].resolved
    monkeypatch.chdir(place)
    copy = yaml.safe_load(claim.content(made["npz"]))
    assert str(place) not in json.dumps(copy)
    again = Suite.from_mapping({**copy, "data_dir": str(place / "data")})
    assert again.dataset("mine").train_images == 1437
    assert provenance.suite_sha256(again.resolved) == provenance.suite_sha256(made["npz"].resolved)


def test_what_prepares_a_data_set_of_a_suite_is_told_where_its_images_are(suites):
    place, made = suites
    assert made["digits"].source_arguments("digits") == []
    assert made["npz"].source_arguments("mine") == ["--npz", str(place / "digits.npz")]
    assert made["images"].source_arguments("mine") == ["--images", str(place / "few")]
