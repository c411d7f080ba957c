"""Raw files of the public data sets: verified when they are there, downloaded from mirrors and unpacked when not."""

import gzip
import hashlib
import io
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiment.errors import UserError
from experiment.files import write_atomically

TIMEOUT = 30.0  # seconds without a byte after which a mirror has failed
# A host that throttles would hold up a first run for an hour while the next mirror serves the same bytes in seconds.
TRIAL_SECONDS, TRIAL_BYTES = 20.0, 5_000_000
LARGEST = 260_000_000  # bytes; the largest archive, of Tiny ImageNet, has 248 million


@dataclass(frozen=True)
class Archive:
    """A file as its publisher distributes it.

    Those of the data sets are torchvision's lists again, because importing torchvision takes seconds; a test holds the
    two equal.

    name: its name at the publisher and at every mirror.
    md5: the publisher's checksum. MD5 tells damage, not malice; it is what the publishers give.
    folder: where it lies, relative to the data folder; the layout is torchvision's.
    contents: what is unpacked from it, path relative to the data folder -> MD5; empty when it is used as it is.
    """

    name: str
    md5: str
    folder: str = ""
    contents: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where it lies, relative to the data folder."""
        return f"{self.folder}/{self.name}" if self.folder else self.name

    @property
    def raw_files(self) -> Mapping[str, str]:
        """The files that are read, path relative to the data folder -> MD5."""
        return self.contents or {self.path: self.md5}


class MirrorError(Exception):
    """A mirror did not serve the file; the text is the reason."""


class SlowMirrorError(MirrorError):
    """A mirror serves, but slowly."""


def verify_raw(archives: Sequence[Archive], data_dir: str | Path) -> None:
    """Check the raw files of a data set's archives that are present; absent ones are no error.

    Reads every raw file once (under a second for CIFAR-10), imports nothing heavy.
    Raises UserError when one is damaged, or is no file that can be read.
    """
    for archive in archives:
        for path, md5 in archive.raw_files.items():
            _check(Path(data_dir) / path, md5)
        if _incomplete(archive, data_dir):
            _check(Path(data_dir) / archive.path, archive.md5)


def missing_raw(archives: Sequence[Archive], data_dir: str | Path) -> list[str]:
    """The raw files of a data set's archives that are not there, as paths relative to the data folder."""
    raw = [path for archive in archives for path in archive.raw_files]
    return [path for path in raw if not (Path(data_dir) / path).is_file()]


def fetch(archives: Sequence[Archive], data_dir: str | Path, mirrors: Sequence[str]) -> None:
    """Make every raw file of a data set present, from its archives, which are downloaded where absent.

    What is already there must have passed `verify_raw`; what is put there has passed the same check before.
    mirrors: addresses of folders that hold the archives, tried in turn. One that is slow from the start is left for
        the next one and returned to when no other has the file.
    Raises UserError when an archive is absent and no mirror serves it.
    """
    needed = [archive for archive in archives if _incomplete(archive, data_dir)]
    absent = [archive for archive in needed if not (Path(data_dir) / archive.path).is_file()]
    for position, archive in enumerate(absent):
        content = _download(archive, mirrors)
        if content is None:
            raise UserError(_all_failed(absent[position:], data_dir))
        write_atomically(Path(data_dir) / archive.path, content)
    for archive in needed:
        for path, content in _unpack(archive, Path(data_dir) / archive.path):
            write_atomically(Path(data_dir) / path, content)


def _md5(content: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(content, usedforsecurity=False)


def _check(path: Path, expected: str) -> None:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, _md5).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); put the official file there, or move away what is there"
        ) from None
    if found != expected:
        raise UserError(
            f"{path} is damaged: its MD5 is {found} and the publisher's is {expected}; delete it, or replace it with "
            "the official file, and run snakemake again"
        )


def _incomplete(archive: Archive, data_dir: str | Path) -> bool:
    return not all((Path(data_dir) / path).is_file() for path in archive.raw_files)


def _all_failed(archives: Sequence[Archive], data_dir: str | Path) -> str:
    files = ", ".join(f"{archive.name} (MD5 {archive.md5})" for archive in archives)
    folder = (Path(data_dir) / archives[0].folder).resolve()
    pronoun = "it" if len(archives) == 1 else "them"
    return (
        f"{archives[0].name} could not be downloaded because every mirror failed; get {files} by other means, put "
        f"{pronoun} into {folder} and run snakemake again"
    )


def _unpack(archive: Archive, path: Path) -> Iterator[tuple[str, bytes]]:
    """The archive's contents, verified. Only names that we know are read, so no name in an archive becomes a path."""
    if not archive.contents:
        return
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(path) as tar:
            unpacked = {
                member.name: file.read()
                for member in tar
                if member.name in archive.contents and (file := tar.extractfile(member)) is not None
            }
    else:
        unpacked = {name: gzip.decompress(path.read_bytes()) for name in archive.contents}
    for name, expected in archive.contents.items():
        found = _md5(unpacked[name]).hexdigest()
        if found != expected:
            raise UserError(
                f"{path}: {name} unpacks to MD5 {found} instead of {expected}; "
                "delete the archive and run snakemake again"
            )
        yield name, unpacked[name]


def _download(archive: Archive, mirrors: Sequence[str]) -> bytes | None:
    """The archive from the first mirror that serves it right, None when all fail; each failure is told on stderr.

    The bytes are held in memory (at most LARGEST) until they are verified: no partial file ever exists.
    """
    for patient in (False, True):
        slow = []
        for mirror in mirrors:
            url = mirror if mirror.endswith(f"/{archive.name}") else f"{mirror.rstrip('/')}/{archive.name}"
            try:
                content = _receive(url, archive.name, patient)
                found = _md5(content).hexdigest()
                if found == archive.md5:
                    return content
                reason = f"the file there has MD5 {found} instead of {archive.md5}"
            except SlowMirrorError as error:
                slow.append(mirror)
                reason = str(error)
            except MirrorError as error:
                reason = str(error)
            print(f"{archive.name}: not from {url}: {reason}", file=sys.stderr, flush=True)
        mirrors = slow
    return None


def _receive(url: str, name: str, patient: bool) -> bytes:
    """What `url` serves, with progress on stderr. Raises MirrorError, and SlowMirrorError unless `patient`."""
    import http.client
    import urllib.request

    content, start = io.BytesIO(), time.monotonic()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "efficient-adversarial-training"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            if length and int(length) > LARGEST:
                raise MirrorError(f"the file there has {int(length):,} bytes, more than any of the archives")
            progress = Progress(name, int(length) if length else None)
            try:
                while chunk := response.read1(1 << 16):
                    content.write(chunk)
                    progress.show(content.tell())
                    if content.tell() > LARGEST:  # a server need not say how much it will send, nor ever stop
                        raise MirrorError(f"more than {LARGEST:,} bytes came, which none of the archives has")
                    if not patient and content.tell() < TRIAL_BYTES and time.monotonic() - start > TRIAL_SECONDS:
                        raise SlowMirrorError(f"only {content.tell() / 1e6:.1f} MB in {TRIAL_SECONDS:.0f} s")
            finally:
                progress.show(content.tell(), last=True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise MirrorError(str(error) or type(error).__name__) from error
    if length and content.tell() != int(length):
        raise MirrorError(f"the connection closed after {content.tell():,} of {int(length):,} bytes")
    return content.getvalue()


class Progress:
    """Tells on stderr how far a download is: in place on a terminal, elsewhere by a line every few seconds.

    total: bytes to come, None when the server does not say.
    """

    def __init__(self, name: str, total: int | None):
        self.name, self.total = name, total
        self.terminal = sys.stderr.isatty()
        self.interval = 0.2 if self.terminal else 5.0
        self.start = self.shown = time.monotonic()

    def show(self, received: int, last: bool = False) -> None:
        """Report `received` bytes if it is time to; always if `last`."""
        now = time.monotonic()
        if not last and now - self.shown < self.interval:
            return
        self.shown = now
        share = f"{100 * received / self.total:.0f} %, " if self.total else ""
        of = f" of {self.total / 1e6:.1f}" if self.total else ""
        rate = received / 1e6 / max(now - self.start, 1e-3)
        line = f"{self.name}: {share}{received / 1e6:.1f}{of} MB, {rate:.1f} MB/s"
        start, end = ("\r", "\n" if last else "") if self.terminal else ("", "\n")
        print(f"{start}{line:<79}" if self.terminal else line, end=end, file=sys.stderr, flush=True)
