"""Arrays that are packed small and unpack large, or whose headers promise what does not follow."""

import gzip
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from tf_gan_zoo.data import DatasetError, load_dataset, unpacking

IMAGES, LABELS = 0x803, 0x801


def idx(path, *shape, data=b"", magic=IMAGES):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(struct.pack(f">{1 + len(shape)}I", magic, *shape) + data)
    return path


def test_idx_promising_too_much_is_refused_before_it_is_unpacked(tmp_path):
    path = idx(tmp_path / "train-images-idx3-ubyte.gz", 2**20, 2**10, 2**10, data=bytes(2**20))
    with pytest.raises(DatasetError, match=r"1,099,511,627,776 bytes in memory.*allow_large=True"):
        load_dataset(f"idx:{tmp_path}")
    assert path.stat().st_size < 2000


def test_idx_that_goes_on_behind_its_array_is_not_unpacked_to_its_end(tmp_path):
    path = idx(tmp_path / "a.gz", 1, 2, 2, data=bytes(2**26))
    tracemalloc.start()
    with pytest.raises(DatasetError, match="cut off or too long"):
        unpacking.read_idx(path, IMAGES)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("content", [
    b"", b"\x00\x00\x08", b"\x00\x00\x08\x03", struct.pack(">4I", IMAGES, 1, 2, 2) + bytes(3),
    struct.pack(">4I", IMAGES, 2**32 - 1, 2**32 - 1, 2**32 - 1), struct.pack(">4I", LABELS, 1, 2, 2),
])  # fmt: skip
def test_malformed_idx(content, tmp_path):
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(content))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(content)[:-9])
    for name in ("plain", "packed.gz", "cut.gz"):
        with pytest.raises(DatasetError):
            unpacking.read_idx(tmp_path / name, IMAGES)


def test_the_limit_can_be_lifted(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_UNPACKED", 100)
    idx(tmp_path / "train-images-idx3-ubyte", 30, 2, 2, data=bytes(120))
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((30, 2, 2), np.uint8))
    for name in (f"idx:{tmp_path}", f"npz:{tmp_path}/a.npz"):
        with pytest.raises(DatasetError, match="more than the 100"):
            load_dataset(name, batch_size=1)
        assert load_dataset(name, batch_size=1, allow_large=True)


@pytest.mark.parametrize("kind, view", [("npz", "images"), ("shapes", "shapes"), ("bars", "melodies")])
def test_archives_of_zeros_are_refused_unread(kind, view, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": (2**12, 2**10, 2**10)}
            )
            for _ in range(8):
                file.write(bytes(2**20))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        size = archive.getinfo("images.npy").file_size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacking, "MAX_UNPACKED", size - 1)
        with pytest.raises(DatasetError, match="unpacked unasked"):
            load_dataset(f"{kind}:{tmp_path}/a.npz", view=view)
    with pytest.raises(DatasetError, match="cannot be read as a NumPy archive"):  # promises 4 GiB, has 8 MiB
        load_dataset(f"{kind}:{tmp_path}/a.npz", view=view)


@pytest.mark.parametrize("kind, view", [("npz", "images"), ("shapes", "shapes"), ("bars", "melodies")])
def test_damaged_archives_raise_one_kind_of_error(kind, view, tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    np.savez(path, images=np.zeros((3, 2, 2), np.uint8), labels=np.arange(3))
    whole = path.read_bytes()
    for _ in range(30):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged[: rng.integers(len(whole) // 2, len(whole))]))
        with pytest.raises(DatasetError):
            load_dataset(f"{kind}:{path}", view=view)
