"""Recorded files as bytes, whatever they are packed in.

Inflating is most of the time that reading takes, so it is left to ISA-L, which needs a third of zlib's, on the
processors that it was written for.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

_deflate: Any = zlib
_gzip: Any = gzip
with suppress(ImportError):  # a processor without it
    from isal import igzip as _gzip
    from isal import isal_zlib as _deflate

DAMAGED = (OSError, EOFError, zlib.error, _deflate.error, zipfile.BadZipFile, RuntimeError, NotImplementedError)
"""What reading a file that is cut off or damaged raises."""
BLOCK = 1 << 19
_CHUNK = 1 << 17
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 1


def handles(path: Path) -> Iterator[IO[bytes]]:
    """Yield the recording's file, or each CSV and JSON file of a zip archive, open one at a time."""
    name = path.name.lower()
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for info in sorted(archive.infolist(), key=lambda one: one.filename):
                if info.filename.lower().endswith((".csv", ".jsonl")):
                    with _member(path, archive, info) as handle:
                        yield handle
        return
    opened = _gzip.open(path, "rb") if name.endswith(".gz") else path.open("rb")
    with opened as handle:
        yield handle


def text_blocks(path: Path, told: Callable[[int], object] | None = None) -> Iterator[bytes]:
    """Yield whole lines in blocks of about half a megabyte; the last line of a file gets an end if it has none.

    `told` hears how many bytes of the file, packed as it lies there, have been read so far.
    """
    for handle in handles(path):
        rest = b""
        while chunk := handle.read(BLOCK):
            if told is not None:
                told(_position(handle))
            rest += chunk
            cut = rest.rfind(b"\n") + 1
            if cut:
                text, rest = rest[:cut], rest[cut:]
                yield text
        if rest:
            yield rest + b"\n"


def _position(handle: Any) -> int:
    raw = getattr(handle, "raw", None)
    if isinstance(raw, _Inflated):
        return raw.position
    packed = getattr(handle, "fileobj", None)  # a gzip file's own
    return int((handle if packed is None else packed).tell())


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.compress_type != zipfile.ZIP_DEFLATED or info.flag_bits & _ENCRYPTED:
        return archive.open(info)
    return io.BufferedReader(_Inflated(path, info), BLOCK)


class _Inflated(io.RawIOBase):
    """One deflated member of a zip archive; its length and checksum are looked at where it ends."""

    def __init__(self, path: Path, info: zipfile.ZipInfo) -> None:
        self._info, self._file = info, path.open("rb")
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
            self._file.close()
            raise zipfile.BadZipFile(f"{info.filename} does not begin where the archive says")
        _, name, extra = _LOCAL_HEADER.unpack(header)
        self._file.seek(name + extra, io.SEEK_CUR)
        self._left, self._size, self._sum = info.compress_size, 0, 0
        self._inflate = _deflate.decompressobj(-15)

    @property
    def position(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._inflate.eof:
            data = self._inflate.unconsumed_tail
            if not data:
                data = self._file.read(min(_CHUNK, self._left))
                self._left -= len(data)
            out = self._inflate.decompress(data, len(buffer))
            if out:
                self._size += len(out)
                self._sum = _deflate.crc32(out, self._sum)
                buffer[: len(out)] = out
                return len(out)
            if not data:
                raise EOFError(f"{self._info.filename} ends too early")
        if self._size != self._info.file_size or self._sum != self._info.CRC:
            raise zipfile.BadZipFile(f"{self._info.filename} is not what was packed")
        return 0

    def close(self) -> None:
        with closing(self._file):
            super().close()
