"""Data sets: what `prepare` writes, what `load_split` accepts, and the split that every run shares."""

import gzip
import hashlib
import pickle
import shutil
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from experiment import data
from experiment.data import dataset, load_split, main, names, prepare, prepared_file
from experiment.datasets.dataset import train_validation_split
from experiment.download import Archive, verify_raw
from experiment.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CIFAR10 = ROOT / "data" / "cifar-10-batches-py"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The data folder of the prepared digits; tests that change a file write it elsewhere."""
    data_dir = tmp_path_factory.mktemp("data")
    prepare("digits", data_dir)
    return data_dir


def put(data_dir, content):
    """A prepared file of the digits' test images with that content, whatever it is."""
    path = prepared_file("digits", "test", data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def change(monkeypatch, name, **facts):
    """Other facts of a data set, for the time of a test."""
    monkeypatch.setattr(f"experiment.datasets.{name}.DATASET", replace(dataset(name), **facts))


def save(path, images, labels):
    data._save(path, images.numpy(), labels.numpy())


def rows(images, labels) -> Counter:
    return Counter((bytes(image.numpy().tobytes()), int(label)) for image, label in zip(images, labels, strict=True))


def mean_and_std(images):
    pixels = images.double().transpose(0, 1).flatten(1) / 255
    return pixels.mean(1).tolist(), pixels.std(1).tolist()


def test_digits_are_all_of_scikit_learns_images_once_split_and_scaled_to_a_byte(digits):
    train, test = load_split("digits", "train", digits), load_split("digits", "test", digits)
    for (images, labels), count in ((train, 1437), (test, 360)):
        assert images.shape == (count, 1, 8, 8)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    scale = [round(Fraction(255 * level, 16)) for level in range(17)]
    source = load_digits()
    images = torch.tensor([[scale[int(level)] for level in image] for image in source.data], dtype=torch.uint8)
    assert rows(*train) + rows(*test) == rows(images, source.target)


def test_every_class_is_in_both_splits_of_digits(digits):
    for split in ("train", "test"):
        labels = load_split("digits", split, digits)[1]
        assert labels.bincount().min() > 0.07 * len(labels)


def test_mean_and_std_are_those_of_the_training_images(digits):
    mean, std = mean_and_std(load_split("digits", "train", digits)[0])
    assert mean == pytest.approx(dataset("digits").mean, abs=1e-4)
    assert std == pytest.approx(dataset("digits").std, abs=1e-4)


def test_every_data_set_describes_each_of_its_channels():
    for name in names():
        known = dataset(name)
        assert known.name == name
        assert len(known.mean) == len(known.std) == known.shape[0]
        assert known.augmentation in ("none", "crop", "crop_flip")


def test_preparing_again_gives_the_same_bytes(digits, tmp_path):
    prepare("digits", tmp_path)
    for split in ("train", "test"):
        again = tmp_path / "prepared" / "digits" / f"{split}.safetensors"
        assert again.read_bytes() == prepared_file("digits", split, digits).read_bytes()
    assert len(list(tmp_path.rglob("*.*"))) == 2


def test_a_library_that_reads_other_images_is_noticed_before_they_are_written(tmp_path, monkeypatch):
    change(monkeypatch, "digits", sha256={"test": "0" * 64})
    with pytest.raises(UserError, match="digits: the test images .* SHA-256 .* instead of 0{64}.*constraints.txt"):
        prepare("digits", tmp_path)
    assert not (tmp_path / "prepared" / "digits" / "test.safetensors").exists()


@settings(max_examples=200, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_no_damaged_byte_changes_the_images_unnoticed(digits, tmp_path_factory, position, change):
    content = bytearray(prepared_file("digits", "test", digits).read_bytes())
    # Half of the draws fall into the header, which is a hundredth of the file.
    header = 8 + int.from_bytes(content[:8], "little")
    place = int(2 * position * header) if position < 0.5 else int(position * len(content))
    content[place] ^= change
    damaged = tmp_path_factory.getbasetemp() / "damaged"
    put(damaged, content)
    try:
        images, labels = load_split("digits", "test", damaged)
    except UserError:
        return
    expected = load_split("digits", "test", digits)
    assert torch.equal(images, expected[0])
    assert torch.equal(labels, expected[1])


@pytest.mark.parametrize("length", [0, 5, 200, 20_000])
def test_a_prepared_file_that_is_cut_off_is_damaged(digits, tmp_path, length):
    put(tmp_path, prepared_file("digits", "test", digits).read_bytes()[:length])
    with pytest.raises(UserError, match="is damaged.*delete it and run snakemake again"):
        load_split("digits", "test", tmp_path)


def test_a_missing_prepared_file_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/prepared/digits/test.safetensors is missing; run snakemake"):
        load_split("digits", "test", tmp_path)


@st.composite
def splits(draw):
    images = draw(st.integers(2, 60))
    validation = draw(st.integers(0, images - 1))
    return images, validation, draw(st.none() | st.integers(1, images - validation))


@given(splits())
def test_validation_and_training_images_are_disjoint_and_as_many_as_asked_for(asked):
    count, validation, cap = asked
    images, labels = torch.arange(count), torch.arange(count) + 1000
    train, train_labels, held_out, held_out_labels = train_validation_split(images, labels, validation, cap)
    assert len(held_out) == validation
    assert len(train) == (cap or count - validation)
    assert len({*train.tolist(), *held_out.tolist()}) == len(train) + len(held_out)
    assert torch.equal(train_labels, train + 1000)
    assert torch.equal(held_out_labels, held_out + 1000)


@given(splits(), st.integers())
def test_a_cap_takes_the_first_of_the_same_training_images_whatever_the_seed(asked, seed):
    count, validation, cap = asked
    images = torch.arange(count)
    torch.manual_seed(seed % 2**32)
    train, _, held_out, _ = train_validation_split(images, images, validation, cap)
    torch.manual_seed(0)
    all_of_them, _, same, _ = train_validation_split(images, images, validation)
    assert torch.equal(train, all_of_them[: len(train)])
    assert torch.equal(held_out, same)


def test_validation_images_are_those_whose_hashes_sort_first():
    images = torch.arange(1437)
    held_out = train_validation_split(images, images, 200)[2]
    # for i in $(seq 0 1436); do echo "$(printf "validation $i" | sha256sum) $i"; done | sort | head -5
    assert held_out[:5].tolist() == [1161, 398, 732, 94, 905]


@pytest.mark.parametrize(("validation", "cap"), [(10, None), (11, None), (4, 7), (-1, None), (0, 11)])
def test_asking_for_more_images_than_there_are_is_an_error(validation, cap):
    images = torch.arange(10)
    with pytest.raises(UserError, match=rf"{validation} validation images .* into the 10 images"):
        train_validation_split(images, images, validation, cap)


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files: two zero bytes, the type (8: unsigned byte), the number of axes, their lengths."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def tiny_fashion_mnist(tmp_path, monkeypatch):
    """Five training and three test images in the place of Fashion-MNIST: (mirror, expected splits)."""
    generator, splits, archives = np.random.default_rng(0), {}, []
    for split, stem, count in (("train", "train", 5), ("test", "t10k", 3)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, count, dtype=np.uint8)
        splits[split] = images, labels
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            raw, name = idx(array), f"{stem}-{kind}-ubyte"
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(raw))
            packed_md5 = hashlib.md5((tmp_path / f"{name}.gz").read_bytes()).hexdigest()
            raw_file = {f"FashionMNIST/raw/{name}": hashlib.md5(raw).hexdigest()}
            archives.append(Archive(f"{name}.gz", packed_md5, "FashionMNIST/raw", raw_file))
    facts = {"archives": tuple(archives), "mirrors": (), "sha256": {}, "train_images": 5, "test_images": 3}
    change(monkeypatch, "fashion_mnist", **facts)
    return tmp_path.as_uri(), splits


def test_the_command_downloads_verifies_prepares_and_says_so_in_one_line(tiny_fashion_mnist, tmp_path, capsys):
    mirror, splits = tiny_fashion_mnist
    main(["fashion_mnist", "--data-dir", str(tmp_path / "data"), "--mirror", mirror])
    assert capsys.readouterr().out == "data fashion_mnist: 5 train + 3 test images, checksums verified\n"
    for split, (images, labels) in splits.items():
        prepared = load_split("fashion_mnist", split, tmp_path / "data")
        assert np.array_equal(prepared[0].numpy(), images[:, None])
        assert np.array_equal(prepared[1].numpy(), labels)


def test_a_damaged_raw_file_is_neither_read_nor_replaced(tiny_fashion_mnist, tmp_path, capsys):
    mirror, _ = tiny_fashion_mnist
    prepare("fashion_mnist", tmp_path / "data", [mirror])
    raw = tmp_path / "data" / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    damaged = raw.read_bytes()[:-1] + b"\xff"
    raw.write_bytes(damaged)
    shutil.rmtree(tmp_path / "data" / "prepared")
    with pytest.raises(SystemExit, match=rf"^error: data fashion_mnist: {raw} is damaged: its MD5 is "):
        main(["fashion_mnist", "--data-dir", str(tmp_path / "data"), "--mirror", mirror])
    assert raw.read_bytes() == damaged
    assert not (tmp_path / "data" / "prepared").exists()


@pytest.fixture
def prepared_fashion_mnist(tiny_fashion_mnist, tmp_path):
    """The data folder of the tiny Fashion-MNIST, whose digests are not known, with raw and prepared files."""
    prepare("fashion_mnist", tmp_path / "data", [tiny_fashion_mnist[0]])
    return tmp_path / "data"


@pytest.mark.fault("data")
def test_noise_in_the_place_of_data_whose_digest_is_not_known_is_refused(prepared_fashion_mnist):
    images, labels = load_split("fashion_mnist", "train", prepared_fashion_mnist)
    save(prepared_file("fashion_mnist", "train", prepared_fashion_mnist), 255 - images, labels)
    with pytest.raises(UserError, match="train.safetensors is not the train split of fashion_mnist: its tensors have"):
        load_split("fashion_mnist", "train", prepared_fashion_mnist)


@pytest.mark.fault("data")
def test_data_whose_digest_is_not_known_count_only_beside_the_raw_files(prepared_fashion_mnist):
    (prepared_fashion_mnist / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="no digest .* is known.*train-labels-idx1-ubyte is missing"):
        load_split("fashion_mnist", "train", prepared_fashion_mnist)


@pytest.mark.fault("data")
@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (lambda images, labels: (images[1:], labels[1:]), r"the images are uint8 \(4, 1, 28, 28\) instead of"),
        (
            lambda images, labels: (images, labels[1:]),
            r"the labels are int64 \(4,\) instead of",
        ),
        (lambda images, labels: (images.float(), labels), "the images are float32"),
        (lambda images, labels: (images.repeat(1, 3, 1, 1), labels), r"\(5, 3, 28, 28\) instead of"),
        (
            lambda images, labels: (images, labels.clamp(min=10)),
            "the labels reach from 10 to 10 instead of",
        ),
        (lambda images, labels: (images, labels - 20), "the labels reach from -"),
    ],
)
def test_images_and_labels_that_are_not_of_the_data_sets_kind_are_named(prepared_fashion_mnist, changed, problem):
    images, labels = load_split("fashion_mnist", "train", prepared_fashion_mnist)
    save(prepared_file("fashion_mnist", "train", prepared_fashion_mnist), *changed(images, labels))
    with pytest.raises(UserError, match=problem):
        load_split("fashion_mnist", "train", prepared_fashion_mnist)


@pytest.mark.fault("data")
def test_labels_that_a_library_reads_wrongly_are_refused(tiny_fashion_mnist, tmp_path, monkeypatch):
    read = data._read
    monkeypatch.setattr(data, "_read", lambda *arguments: (read(*arguments)[0], read(*arguments)[1] + 10))
    with pytest.raises(UserError, match="fashion_mnist: the train images are not .* the labels reach from 1"):
        prepare("fashion_mnist", tmp_path / "data", [tiny_fashion_mnist[0]])


@pytest.mark.fault("place")
def test_a_data_folder_that_cannot_be_written_to_is_read_and_the_prepared_files_lie_in_the_working_folder(
    tiny_fashion_mnist, tmp_path, monkeypatch
):
    mirror, splits = tiny_fashion_mnist
    prepare("fashion_mnist", tmp_path / "shared", [mirror])
    shutil.rmtree(tmp_path / "shared" / "prepared")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path / "shared")
    prepare("fashion_mnist", tmp_path / "shared")
    assert prepared_file("fashion_mnist", "train", tmp_path / "shared").resolve().is_relative_to(tmp_path / "data")
    assert not (tmp_path / "shared" / "prepared").exists()
    images = load_split("fashion_mnist", "train", tmp_path / "shared")[0]
    assert np.array_equal(images.numpy()[:, 0], splits["train"][0])


@pytest.mark.fault("file")
def test_a_folder_in_the_place_of_a_data_file_is_one_sentence(prepared_fashion_mnist):
    raw = prepared_fashion_mnist / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    for path in (raw, prepared_file("fashion_mnist", "train", prepared_fashion_mnist)):
        path.unlink()
        path.mkdir()
    with pytest.raises(UserError, match=f"{raw} cannot be read"):
        verify_raw(dataset("fashion_mnist").archives, prepared_fashion_mnist)
    with pytest.raises(UserError, match="train.safetensors cannot be read"):
        load_split("fashion_mnist", "train", prepared_fashion_mnist)


def test_files_of_old_torchvision_versions_are_not_read_in_the_place_of_verified_ones(tiny_fashion_mnist, tmp_path):
    mirror, splits = tiny_fashion_mnist
    old = tmp_path / "data" / "FashionMNIST" / "processed"
    old.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(5, 28, 28, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)), old / name)
    prepare("fashion_mnist", tmp_path / "data", [mirror])
    images = load_split("fashion_mnist", "train", tmp_path / "data")[0]
    assert np.array_equal(images.numpy()[:, 0], splits["train"][0])


def test_cifar100_is_read_with_its_fine_labels_and_channels_first(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import calculate_md5

    folder = tmp_path / CIFAR100.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    batch = {"data": pixels, "fine_labels": [99, 0, 5, 7], "coarse_labels": [1, 1, 1, 1]}
    for name, content in (("train", batch), ("test", batch), ("meta", {"fine_label_names": ["apple"]})):
        (folder / name).write_bytes(pickle.dumps(content))
    for attribute, name in (("train_list", "train"), ("test_list", "test")):
        monkeypatch.setattr(CIFAR100, attribute, [[name, calculate_md5(folder / name)]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": calculate_md5(folder / "meta")})
    images, labels = data._read(dataset("cifar100"), tmp_path, "train")
    assert np.array_equal(images, pixels.reshape(4, 3, 32, 32))
    assert labels.tolist() == [99, 0, 5, 7]


def test_svhn_is_read_with_channels_first_and_the_digit_0_as_class_0(tmp_path, monkeypatch):
    import scipy.io
    from torchvision.datasets import SVHN
    from torchvision.datasets.utils import calculate_md5

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.array([[10], [1], [9], [10]], dtype=np.uint8)})
    entry = ["", "test_32x32.mat", calculate_md5(tmp_path / "test_32x32.mat")]
    monkeypatch.setattr(SVHN, "split_list", {**SVHN.split_list, "test": entry})
    images, labels = data._read(dataset("svhn"), tmp_path, "test")
    assert images.shape == (4, 3, 32, 32)
    assert images[2, 1, 30, 5] == pixels[30, 5, 1, 2]
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert labels.tolist() == [0, 1, 9, 0]


@pytest.mark.slow
@pytest.mark.skipif(not CIFAR10.is_dir(), reason="needs CIFAR-10: python -m experiment.data cifar10 --data-dir data")
def test_cifar10_is_prepared_with_its_published_mean_and_std(tmp_path):
    shutil.copytree(CIFAR10, tmp_path / CIFAR10.name, copy_function=lambda source, copy: Path(copy).symlink_to(source))
    prepare("cifar10", tmp_path)
    images, labels = load_split("cifar10", "train", tmp_path)
    assert labels.bincount().tolist() == [5000] * 10
    mean, std = mean_and_std(images)
    assert mean == pytest.approx(dataset("cifar10").mean, abs=1e-4)
    assert std == pytest.approx(dataset("cifar10").std, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["imagenet"], "data set 'imagenet' is not known; the data sets are cifar10, cifar100, digits"),
        (
            ["svhn", "--mirror", "file:///nowhere"],
            "train_32x32.mat could not be downloaded because every mirror failed",
        ),
    ],
)
def test_what_the_user_has_to_mend_is_one_sentence(tmp_path, capsys, monkeypatch, arguments, sentence):
    change(monkeypatch, "svhn", mirrors=())
    with pytest.raises(SystemExit, match=f"^error: data {arguments[0]}: {sentence}"):
        main([*arguments, "--data-dir", str(tmp_path)])
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written_is_one_sentence_too(tmp_path):
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(SystemExit, match="^error: data digits: Not a directory: "):
        main(["digits", "--data-dir", str(tmp_path / "data")])


def test_prepared_data_that_agree_with_themselves_but_are_not_the_data_set_are_refused(tmp_path):
    """As an older version of a library may have prepared them."""
    prepare("digits", tmp_path)
    images, labels = load_split("digits", "train", tmp_path)
    save(prepared_file("digits", "train", tmp_path), images.flip(0), labels)
    with pytest.raises(UserError, match=dataset("digits").sha256["train"]):
        load_split("digits", "train", tmp_path)


def test_the_module_and_its_checks_load_nothing_that_takes_seconds(tmp_path):
    program = (
        f"import sys; from experiment.data import check; check('cifar10', {str(tmp_path)!r}); "
        "print(sorted({'torch', 'torchvision', 'sklearn', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
