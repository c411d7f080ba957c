"""Tiny ImageNet as its archive holds it; the archive here is a small one of the same layout."""

import hashlib
import io
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from experiment import data
from experiment.data import dataset
from experiment.datasets import tiny_imagenet
from experiment.download import Archive


def jpeg(shade, mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, (64, 64), (shade, 40, 200) if mode == "RGB" else shade).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    first, second = tiny_imagenet.CLASS_NAMES[:2]
    with ZipFile(tmp_path / tiny_imagenet.ARCHIVE, "w") as archive:
        base = "tiny-imagenet-200"
        archive.writestr(f"{base}/train/{second}/images/{second}_0.JPEG", jpeg(90))
        archive.writestr(f"{base}/train/{first}/images/{first}_1.JPEG", jpeg(20))
        archive.writestr(f"{base}/train/{first}/images/{first}_0.JPEG", jpeg(10, "L"))  # some are grey
        archive.writestr(f"{base}/train/{first}/{first}_boxes.txt", "")
        archive.writestr(f"{base}/val/images/val_1.JPEG", jpeg(200))
        archive.writestr(f"{base}/val/images/val_0.JPEG", jpeg(100))
        archive.writestr(
            f"{base}/val/val_annotations.txt", f"val_1.JPEG\t{first}\t0\t0\t9\t9\nval_0.JPEG\t{second}\t0\n"
        )
        archive.writestr(f"{base}/test/images/test_0.JPEG", jpeg(0))
    return tmp_path


def test_labels_are_the_places_of_the_wordnet_ids_in_alphabetical_order():
    known = dataset("tiny_imagenet")
    assert len(set(known.class_names)) == known.classes == 200
    assert list(known.class_names) == sorted(known.class_names)


@pytest.mark.parametrize(
    ("split", "labels", "shades"), [("train", [0, 0, 1], [10, 20, 90]), ("test", [1, 0], [100, 200])]
)
def test_images_are_read_from_the_archive_in_colour_with_their_labels(folder, split, labels, shades):
    images, found = dataset("tiny_imagenet").read(folder, split)
    assert images.shape == (len(labels), 3, 64, 64)
    assert images.dtype == np.uint8
    assert found == labels
    np.testing.assert_allclose(images[:, 0].mean((1, 2)), shades, atol=4)  # JPEG loses a little


def test_it_is_prepared_and_loaded_like_any_other(folder, monkeypatch):
    md5 = hashlib.md5((folder / tiny_imagenet.ARCHIVE).read_bytes()).hexdigest()
    archives = (Archive(tiny_imagenet.ARCHIVE, md5),)
    small = replace(dataset("tiny_imagenet"), train_images=3, test_images=2, archives=archives)
    monkeypatch.setattr(tiny_imagenet, "DATASET", small)
    data.prepare("tiny_imagenet", folder)
    images, labels = data.load_split("tiny_imagenet", "train", folder)
    assert images.shape == (3, 3, 64, 64)
    assert labels.tolist() == [0, 0, 1]
