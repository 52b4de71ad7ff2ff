"""The chunk file: whole under its name or not there; any change of it is noticed (I17, I24)."""

import errno
import hashlib
import os
import random
import signal
import struct
import subprocess
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import bson
import pytest
import zstandard

from executors.batches import Block
from executors.chunkfile import (
    DamagedFile,
    Written,
    check_chunk_file,
    read_blocks,
    write_chunk_file,
)

Compression = Literal["none", "zstd"]
BOTH: tuple[Compression, ...] = ("none", "zstd")
HEAD = 20


def blocks(*counts: int, pad: int = 20) -> list[Block]:
    """Blocks of so many documents each, of content that is the same each time."""
    draw = random.Random(1)
    made = []
    for number, count in enumerate(counts):
        documents = [
            bson.encode({"_id": number * 1000 + n, "pad": draw.randbytes(pad)})
            for n in range(count)
        ]
        made.append(Block(b"".join(documents), count))
    return made


def write(path: Path, content: Iterable[Block], compression: Compression = "zstd") -> Written:
    return write_chunk_file(path, iter(content), compression)


def check(path: Path, written: Written) -> None:
    check_chunk_file(
        path, file_bytes=written.file_bytes, sha256=written.sha256, stop=threading.Event()
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0-1.flb"


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", BOTH)
@pytest.mark.parametrize("counts", [(), (1,), (3, 1, 5), (0, 2), (1000,)])
def test_what_is_written_is_read(
    path: Path, compression: Compression, counts: tuple[int, ...]
) -> None:
    content = blocks(*counts)

    written = write(path, content, compression)

    raw = path.read_bytes()
    assert (written.documents, written.blocks) == (sum(counts), len(counts))
    assert written.bytes == sum(len(block.data) for block in content)
    assert (written.file_bytes, written.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    check(path, written)
    assert [block for block, _ in read_blocks(path)] == content
    assert sorted(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("compression", BOTH)
def test_each_position_is_a_place_to_go_on(path: Path, compression: Compression) -> None:
    """What `restore_progressed` names is where the rest begins."""
    content = blocks(3, 1, 5, 2)
    written = write(path, content, compression)
    positions = [position for _, position in read_blocks(path)]
    assert positions[-1] == written.file_bytes
    for n, position in enumerate(positions, 1):
        assert [block for block, _ in read_blocks(path, position)] == content[n:]


def test_a_position_between_two_blocks_is_refused(path: Path) -> None:
    write(path, blocks(3, 3))
    second = next(read_blocks(path))[1]
    for position in {1, 19, 20, second - 1, second + 1}:
        with pytest.raises(DamagedFile):
            list(read_blocks(path, position))


def test_the_layout_is_the_one_that_is_documented(path: Path) -> None:
    """A file of this version can be read by hand: the format is public."""
    (block,) = blocks(3)
    write(path, [block])
    raw = path.read_bytes()
    magic, documents, size, payload, compression = struct.unpack_from("<4sIIII", raw)
    assert (magic, documents, size, compression) == (b"FLB1", 3, len(block.data), 1)
    assert len(raw) == HEAD + payload
    assert zstandard.ZstdDecompressor().decompress(raw[HEAD:]) == block.data


# --- damage ---------------------------------------------------------------------------------------


@pytest.fixture
def written(path: Path) -> Written:
    """A small file of two blocks."""
    return write(path, blocks(3, 2))


def test_every_flipped_bit_is_refused(path: Path, written: Written) -> None:
    """I24: each bit of each byte."""
    good = path.read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            with pytest.raises(DamagedFile, match="SHA-256"):
                check(path, written)
    path.write_bytes(good)
    check(path, written)


def test_every_cut_is_refused(path: Path, written: Written) -> None:
    """I24: each length but the right one."""
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(DamagedFile, match=f"has {size} bytes"):
            check(path, written)
    for more in (b"\0", good):
        path.write_bytes(good + more)
        with pytest.raises(DamagedFile):
            check(path, written)


def test_blocks_in_another_order_are_refused(path: Path, written: Written) -> None:
    second = next(read_blocks(path))[1]
    good = path.read_bytes()
    path.write_bytes(good[second:] + good[:second])
    with pytest.raises(DamagedFile):
        check(path, written)


def missing(path: Path) -> None:
    path.unlink()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [missing, dangling, directory])
def test_a_file_that_is_gone_is_damage(path: Path, written: Written, damage: object) -> None:
    """I24: the chunk is dumped again, whatever took the file's place."""
    assert callable(damage)
    damage(path)
    with pytest.raises(DamagedFile, match="0-1.flb"):
        check(path, written)


@pytest.mark.parametrize("compression", BOTH)
def test_the_reader_says_damage_and_nothing_else(path: Path, compression: Compression) -> None:
    """Should a file change between its check and its reading, that is damage too, not a bug; and
    no length in it is believed."""
    write(path, blocks(3, 2), compression)
    good = path.read_bytes()
    tracemalloc.start()
    for at in range(len(good)):
        for mask in (0x01, 0x80, 0xFF):
            path.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
            _read_to_the_end(path)
    for size in range(len(good)):
        path.write_bytes(good[:size])
        _read_to_the_end(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20, "a length was believed"


def _read_to_the_end(path: Path) -> None:
    try:
        for _ in read_blocks(path):
            pass
    except DamagedFile:
        pass


# --- ends of an attempt that are no end -----------------------------------------------------------


def test_an_error_leaves_nothing(path: Path) -> None:
    """The source fails in the middle: neither the file nor its beginning stays."""

    def failing() -> Iterator[Block]:
        yield from blocks(3, 3)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        write(path, failing())
    assert list(path.parent.iterdir()) == []


def test_an_error_leaves_the_file_of_before(path: Path) -> None:
    before = write(path, blocks(3))

    def failing() -> Iterator[Block]:
        yield from blocks(1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        write(path, failing())
    check(path, before)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_what_a_killed_attempt_left_is_harmless(path: Path, size: int) -> None:
    """P3: thrown away by the next attempt, however long it is."""
    leftover = path.with_name(path.name + ".tmp")
    leftover.write_bytes(b"\xff" * size)
    written = write(path, blocks(3))
    check(path, written)
    assert list(path.parent.iterdir()) == [path]


def test_a_link_in_the_place_of_the_leftover_is_not_followed(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "precious"
    elsewhere.write_text("precious")
    path.with_name(path.name + ".tmp").symlink_to(elsewhere)
    check(path, write(path, blocks(3)))
    assert elsewhere.read_text() == "precious"


def test_killed_in_the_middle(path: Path) -> None:
    """I17: a process that dies while it writes leaves nothing under the final name."""
    pid = os.fork()
    if pid == 0:
        write_chunk_file(path, _deadly(), "none")
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not path.exists()
    (leftover,) = path.parent.iterdir()
    assert leftover.stat().st_size > 0
    check(path, write(path, blocks(3)))
    assert list(path.parent.iterdir()) == [path]


def _deadly() -> Iterator[Block]:
    yield from blocks(50, 50, pad=5_000)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", disk],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: full disks are NOT tested")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("compression", BOTH)
def test_a_full_disk_leaves_nothing(small_disk: Path, compression: Compression) -> None:
    """EDISK001: the error is the disk's own, and the room that was taken is given back."""
    path = small_disk / "0-1.flb"
    with pytest.raises(OSError, match="No space left") as caught:
        write(path, blocks(100, 100, 100, pad=5_000), compression)
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []
    check(path, write(path, blocks(100), compression))


def test_a_disk_that_is_full_to_the_last_byte(small_disk: Path) -> None:
    """What the buffer held back must not get lost at the end."""
    path = small_disk / "0-1.flb"
    filler = small_disk / "filler"
    filler.write_bytes(bytes((1 << 20) - 4096))
    with pytest.raises(OSError, match="No space left"):
        write(path, blocks(1, pad=5_000), "none")
    assert list(small_disk.iterdir()) == [filler]


def test_no_room_for_even_a_name(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(1 << 20))
    with pytest.raises(OSError, match="No space left"):
        write(small_disk / "0-1.flb", blocks(1))
    assert [each.name for each in small_disk.iterdir()] == ["filler"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "no" / "0-1.flb", blocks(1))
