"""Raw files: what is verified, downloaded and unpacked, against a server on this machine."""

import contextlib
import gzip
import hashlib
import io
import re
import tarfile
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from experiment import download
from experiment.data import dataset, names, prepare
from experiment.download import Archive, fetch, verify_raw
from experiment.errors import UserError

RAW = {"box/one": b"first " * 1000, "box/two": b"second"}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tarball(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


GOOD = tarball({**RAW, "box/readme.html": b"not asked for", "../outside": b"an attack"})
BOX = Archive("box.tar.gz", md5(GOOD), contents={name: md5(content) for name, content in RAW.items()})


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        cut, seconds = self.server.cut.get(self.path, len(content)), self.server.seconds.get(self.path, 0.0)
        self.send_response(200)
        if self.path not in self.server.endless:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have had enough
            for start in range(0, cut, 2000):
                self.wfile.write(content[start : min(start + 2000, cut)])
                time.sleep(seconds)
            while self.path in self.server.endless:
                self.wfile.write(bytes(2000))

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """`files`: path -> content; `cut`: path -> bytes sent of it; `seconds`: path -> pause after every 2,000 bytes.

    `endless`: paths whose length is not said, and after which bytes come as long as somebody takes them.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.cut, server.seconds, server.asked, server.endless = {}, {}, {}, [], set()
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_checksums_and_names_are_those_of_torchvision():
    from torchvision.datasets import CIFAR10, CIFAR100, SVHN, FashionMNIST

    for name, cls in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        (archive,) = dataset(name).archives
        files = [*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])]
        assert (archive.path, archive.md5) == (cls.filename, cls.tgz_md5)
        assert archive.contents == {f"{cls.base_folder}/{file}": md5 for file, md5 in files}
    assert [(archive.name, archive.md5) for archive in dataset("fashion_mnist").archives] == FashionMNIST.resources
    folder = FashionMNIST.__name__ + "/raw/"
    for archive in dataset("fashion_mnist").archives:
        assert archive.path == folder + archive.name
        assert list(archive.contents) == [archive.path.removesuffix(".gz")]
    published = [tuple(SVHN.split_list[split][1:]) for split in ("train", "test")]
    assert [(archive.path, archive.md5) for archive in dataset("svhn").archives] == published


def test_every_data_set_with_archives_has_mirrors_the_publisher_first():
    from torchvision.datasets import CIFAR10, CIFAR100, SVHN, FashionMNIST

    known = {name: dataset(name).mirrors for name in names() if dataset(name).archives}
    assert not dataset("digits").archives
    official = {
        "cifar10": CIFAR10.url,
        "cifar100": CIFAR100.url,
        "fashion_mnist": FashionMNIST.mirrors[0],
        "svhn": SVHN.split_list["train"][0],
        "tiny_imagenet": "http://cs231n.stanford.edu/tiny-imagenet-200.zip",  # which torchvision does not have
    }
    for name, mirrors in known.items():
        assert official[name].startswith(mirrors[0])
        assert all(re.fullmatch(r"https?://\S+/", mirror) for mirror in mirrors)


def test_an_archive_is_downloaded_verified_and_unpacked_without_what_was_not_asked_for(server, data_dir, capsys):
    server.files["/good/box.tar.gz"] = GOOD
    fetch((BOX,), data_dir, [f"{server.address}/good/"])
    assert contents(data_dir) == {**RAW, "box.tar.gz": GOOD}
    assert not (data_dir.parent / "outside").exists()
    assert "box.tar.gz: 100 %" in capsys.readouterr().err
    verify_raw((BOX,), data_dir)


@pytest.mark.parametrize("mirror", ["good", "good/", "good/box.tar.gz"])
def test_a_mirror_may_be_given_as_a_folder_or_as_the_archive_itself(server, data_dir, mirror):
    server.files["/good/box.tar.gz"] = GOOD
    fetch((BOX,), data_dir, [f"{server.address}/{mirror}"])
    assert server.asked == ["/good/box.tar.gz"]


def test_a_folder_of_this_machine_serves_as_a_mirror(tmp_path, data_dir):
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "box.tar.gz").write_bytes(GOOD)
    fetch((BOX,), data_dir, [(tmp_path / "shelf").as_uri()])
    assert contents(data_dir).keys() == {*RAW, "box.tar.gz"}


@pytest.mark.parametrize("bad", ["missing", "wrong", "cut", "refused", "nonsense"])
def test_a_mirror_that_fails_is_named_with_its_reason_and_left_for_the_next(server, data_dir, capsys, bad):
    server.files |= {"/good/box.tar.gz": GOOD, "/wrong/box.tar.gz": GOOD[:-1] + b"?", "/cut/box.tar.gz": GOOD}
    server.cut["/cut/box.tar.gz"] = len(GOOD) // 2
    mirror = {"refused": "http://127.0.0.1:9", "nonsense": "no-address"}.get(bad, f"{server.address}/{bad}")
    fetch((BOX,), data_dir, [mirror, f"{server.address}/good"])
    assert contents(data_dir) == {**RAW, "box.tar.gz": GOOD}
    reason = {
        "missing": "404",
        "wrong": md5(GOOD[:-1] + b"?"),
        "cut": f"closed after {len(GOOD) // 2:,} of {len(GOOD):,}",
        "refused": "refused",
        "nonsense": "unknown url type",
    }[bad]
    assert re.search(rf"box.tar.gz: not from {mirror}/box.tar.gz: .*{reason}", capsys.readouterr().err)


def test_known_mirrors_come_after_the_given_ones(server, data_dir, monkeypatch):
    small = replace(dataset("cifar10"), archives=(BOX,), mirrors=(f"{server.address}/known/",))
    monkeypatch.setattr("experiment.datasets.cifar10.DATASET", small)
    with pytest.raises(UserError, match="every mirror failed"):
        prepare("cifar10", data_dir, [f"{server.address}/given/"])
    assert server.asked == ["/given/box.tar.gz", "/known/box.tar.gz"]


def test_a_slow_mirror_is_left_for_a_quick_one_and_returned_to_when_there_is_none(server, data_dir, monkeypatch):
    monkeypatch.setattr(download, "TRIAL_SECONDS", 0.2)
    big = hashlib.shake_256(b"incompressible").digest(20_000)
    archives = (Archive("big.mat", md5(big)),)
    server.files |= {"/slow/big.mat": big, "/quick/big.mat": big}
    server.seconds["/slow/big.mat"] = 0.1
    fetch(archives, data_dir / "a", [f"{server.address}/slow", f"{server.address}/quick"])
    assert server.asked == ["/slow/big.mat", "/quick/big.mat"]
    fetch(archives, data_dir / "b", [f"{server.address}/slow", f"{server.address}/missing"])
    assert server.asked[2:] == ["/slow/big.mat", "/missing/big.mat", "/slow/big.mat"]
    assert contents(data_dir) == {"a/big.mat": big, "b/big.mat": big}


def test_a_silent_mirror_fails_after_the_timeout(server, data_dir, monkeypatch, capsys):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    server.files |= {"/silent/box.tar.gz": GOOD + bytes(4000), "/good/box.tar.gz": GOOD}
    server.seconds["/silent/box.tar.gz"] = 1.0
    fetch((BOX,), data_dir, [f"{server.address}/silent", f"{server.address}/good"])
    assert "timed out" in capsys.readouterr().err


def test_when_all_mirrors_fail_one_sentence_says_what_to_put_where_and_nothing_is_left(server, data_dir):
    server.files["/cut/box.tar.gz"] = GOOD
    server.cut["/cut/box.tar.gz"] = 10
    with pytest.raises(UserError) as caught:
        fetch((BOX,), data_dir, [f"{server.address}/missing", f"{server.address}/cut"])
    assert str(caught.value) == (
        "box.tar.gz could not be downloaded because every mirror failed; get box.tar.gz "
        f"(MD5 {BOX.md5}) by other means, put it into {data_dir.resolve()} and run snakemake again"
    )
    assert not data_dir.exists()


def test_the_sentence_names_every_archive_still_needed_and_the_real_folder(server, data_dir):
    packed = {name: gzip.compress(name.encode()) for name in "abc"}
    archives = [
        Archive(f"{name}.gz", md5(content), "Box/raw", {f"Box/raw/{name}": md5(name.encode())})
        for name, content in packed.items()
    ]
    server.files["/a.gz"] = packed["a"]
    with pytest.raises(UserError) as caught:
        fetch(archives, data_dir, [server.address])
    assert f"get b.gz (MD5 {md5(packed['b'])}), c.gz (MD5 {md5(packed['c'])})" in str(caught.value)
    assert f"put them into {data_dir.resolve() / 'Box' / 'raw'} " in str(caught.value)
    for name in "bc":
        (data_dir / "Box" / "raw" / f"{name}.gz").write_bytes(packed[name])
    fetch(archives, data_dir, ())
    assert [(data_dir / "Box" / "raw" / name).read_bytes() for name in "abc"] == [b"a", b"b", b"c"]


def test_an_archive_put_in_place_by_hand_needs_no_mirror(data_dir):
    data_dir.mkdir()
    (data_dir / "box.tar.gz").write_bytes(GOOD)
    verify_raw((BOX,), data_dir)
    fetch((BOX,), data_dir, ())
    assert contents(data_dir) == {**RAW, "box.tar.gz": GOOD}


@pytest.mark.fault("file")
@pytest.mark.parametrize("length", ["said", "not said"])
def test_a_mirror_that_sends_more_than_any_archive_is_left_for_the_next(server, data_dir, monkeypatch, capsys, length):
    monkeypatch.setattr(download, "LARGEST", 3 * len(GOOD))
    server.files = {"/large/box.tar.gz": bytes(4 * len(GOOD)), "/good/box.tar.gz": GOOD}
    if length == "not said":
        server.endless.add("/large/box.tar.gz")
    fetch((BOX,), data_dir, [f"{server.address}/large", f"{server.address}/good"])
    assert "the archives" in capsys.readouterr().err
    assert contents(data_dir)["box/two"] == b"second"


def test_raw_files_that_are_whole_need_neither_archive_nor_mirror(data_dir):
    (data_dir / "box").mkdir(parents=True)
    for name, content in RAW.items():
        (data_dir / name).write_bytes(content)
    (data_dir / "box.tar.gz").write_bytes(b"a broken download of long ago")
    verify_raw((BOX,), data_dir)
    fetch((BOX,), data_dir, ())


def test_absent_raw_files_are_no_error(data_dir):
    for name in names():
        verify_raw(dataset(name).archives, data_dir)


@pytest.mark.parametrize("damaged", ["box/two", "box.tar.gz"])
def test_a_damaged_file_is_named_with_both_checksums_and_what_to_do(data_dir, damaged):
    (data_dir / "box").mkdir(parents=True)
    (data_dir / damaged).write_bytes(b"")
    expected = {**BOX.contents, "box.tar.gz": BOX.md5}[damaged]
    with pytest.raises(UserError) as caught:
        verify_raw((BOX,), data_dir)
    assert str(caught.value) == (
        f"{data_dir / damaged} is damaged: its MD5 is {md5(b'')} and the publisher's is {expected}; delete it, or "
        "replace it with the official file, and run snakemake again"
    )


def test_an_archive_that_unpacks_to_something_else_leaves_no_raw_file(data_dir):
    other = Archive("box.tar.gz", md5(GOOD), contents={"box/one": md5(b"another")})
    data_dir.mkdir()
    (data_dir / "box.tar.gz").write_bytes(GOOD)
    with pytest.raises(UserError, match=md5(RAW["box/one"])):
        fetch((other,), data_dir, ())
    assert contents(data_dir).keys() == {"box.tar.gz"}


def test_progress_is_a_line_every_few_seconds_in_a_log_and_one_moving_line_on_a_terminal(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(download.time, "monotonic", lambda: clock[0])
    for terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        clock[0] = 0.0
        progress = download.Progress("box", 200_000_000)
        for second in range(1, 21):
            clock[0] = float(second)
            progress.show(second * 10_000_000)
        progress.show(200_000_000, last=True)
        told = capsys.readouterr().err
        lines = [line.strip() for line in told.replace("\r", "\n").strip().split("\n")]
        assert lines[-1] == "box: 100 %, 200.0 of 200.0 MB, 10.0 MB/s"
        if terminal:
            assert told.count("\r") == len(lines) == 21
            assert told.endswith("\n")
            assert told.count("\n") == 1
        else:
            assert lines[0] == "box: 25 %, 50.0 of 200.0 MB, 10.0 MB/s"
            assert len(lines) == 5


def test_progress_of_a_server_that_does_not_say_how_much_is_still_told(capsys):
    download.Progress("box", None).show(1_500_000, last=True)
    assert re.fullmatch(r"box: 1\.5 MB, [\d.]+ MB/s\n", capsys.readouterr().err)
