"""Defends what is on the disk: against a disk that fills, a quota, a limit on files, and killed processes.

Nothing that was whole is lost, nothing half stands under its final name, no leftovers take up the space,
training goes on, and the message says how much space is missing.
"""

import ast
import errno
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny

from tf_gan_zoo import callbacks, checkpoints, files, image_writing, music, present, shape_files, weights
from tf_gan_zoo.metrics import gather

ROOT = Path(__file__).resolve().parents[2]

TRAINING = """
import json, resource, signal, sys
from pathlib import Path
sys.path.insert(0, "tests")
from conftest import make_fields, tiny
from tf_gan_zoo import callbacks, checkpoints

folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = tiny("dcgan")
model.compile(run_eagerly=True)
used = [callbacks.SampleGrid(folder / "samples"), callbacks.HistoryFile(folder / "history.jsonl"),
        callbacks.Checkpoint(folder)]
found = []
for epoch, limit in enumerate((resource.RLIM_INFINITY, 4096, resource.RLIM_INFINITY)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    options = {"initial_epoch": epoch, "epochs": epoch + 1, "verbose": 0, "callbacks": used}
    model.fit(make_fields(model, 8), batch_size=8, **options)
    names = (checkpoints.LATEST, checkpoints.LAST_GOOD)
    found.append([checkpoints.check(folder / name).step for name in names])
print(json.dumps(found))
"""


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(files.PREFIX)]


@pytest.mark.skipif(os.name != "posix", reason="limits on the size of files are POSIX's")
def test_training_goes_on_when_no_large_file_can_be_written(tmp_path):
    """HDF5 used to write into the file itself; a full disk ended the process by a segmentation fault."""
    ended = subprocess.run(
        [sys.executable, "-c", TRAINING, str(tmp_path)], cwd=ROOT, timeout=300, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert json.loads(ended.stdout.splitlines()[-1]) == [[1, 1], [1, 1], [3, 3]]
    assert "checkpoint of step 2 not written" in ended.stderr
    assert "a limit on the size of files is below that. The file that was there is whole." in ended.stderr
    assert "Training goes on. The last one is of step 1." in ended.stderr
    assert [row["step"] for row in callbacks.read_history(tmp_path / "history.jsonl")] == [1, 2, 3]
    assert not leftovers(tmp_path)


# -------------------------------------------------------------------- a full disk, for every writer


class FullDisk:
    """`open` on a disk with so many bytes left."""

    def __init__(self, free):
        self.free = free

    def __call__(self, path, mode="r", **options):
        file = open(path, mode, buffering=0)  # noqa: SIM115  (for whoever calls)
        if mode == "r":
            return file
        real = file.write

        def write(data):
            data = memoryview(data).cast("B")
            fits, self.free = data[: self.free], max(self.free - len(data), 0)
            real(fits)
            if len(fits) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return len(data)

        return _Writer(file, write)


class _Writer:
    def __init__(self, file, write):
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


@pytest.fixture(scope="module")
def model():
    return tiny("dcgan")


PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
MESH = shape_files.Mesh(np.random.default_rng(0).normal(size=(99, 3)), np.zeros((0, 3), int))
WRITERS = {
    "checkpoint.weights.h5": lambda model, path: checkpoints.save(model, path),
    "weights.npz": lambda model, path: weights.save(model, path),
    "sample.png": lambda model, path: present.save_image(PICTURE, path),
    "walk.gif": lambda model, path: present.save_gif(PICTURE[None], path),
    "translated.png": lambda model, path: image_writing.write_image(PICTURE, path),
    "record.json": lambda model, path: files.write_text(path, "x" * 999),
    "shape.ply": lambda model, path: shape_files.write_ply(path, MESH),
    "cached.npz": lambda model, path: gather._write(path, gather.Gathered(1, features=np.ones((99, 9)))),
    "history.jsonl": lambda model, path: files.append_lines(path, ["x" * 500 + "\n"] * 2),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("old", [None, b"the old one\n"])
def test_a_full_disk_leaves_old_files_whole_and_no_new_ones(tmp_path, monkeypatch, model, name, old):
    path = tmp_path / name
    if old is not None:
        path.write_bytes(old)
    before = b"" if old is None and name == "history.jsonl" else old  # rows are added to a file that is there
    monkeypatch.setattr(files, "open", FullDisk(300), raising=False)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(1000, 990, 10))
    message = r"the disk has 0.0 MB left, so .* MB or more are missing"
    with pytest.raises(files.WriteError, match=message) as caught:
        WRITERS[name](model, path)
    assert caught.value.errno == errno.ENOSPC
    assert (path.read_bytes() if path.exists() else None) == before
    assert not leftovers(tmp_path)
    monkeypatch.setattr(files, "open", open, raising=False)
    WRITERS[name](model, path)
    assert path.stat().st_size > 300


def test_the_message_names_the_megabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "open", FullDisk(0), raising=False)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**6))
    message = "needs 3.5 MB or more, the disk has 1.0 MB left, so 2.5 MB or more are missing"
    with pytest.raises(files.WriteError, match=message):
        files.write_bytes(tmp_path / "a", bytes(3_500_000))
    monkeypatch.setattr(files, "open", open, raising=False)
    (tmp_path / "folder").mkdir()
    with pytest.raises(files.WriteError, match="folder cannot be written: Is a directory"):
        files.write_text(tmp_path / "folder", "x")


def test_an_error_in_the_maker_keeps_the_old_file(tmp_path):
    files.write_text(tmp_path / "a", "old")

    def half(file):
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a", half)
    assert (tmp_path / "a").read_text() == "old"
    assert not leftovers(tmp_path)


def test_rows_are_added_behind_what_a_killed_process_left(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1}\n{"st')
    files.append_lines(path, ['{"step": 2}\n'])
    assert path.read_text().splitlines() == ['{"step": 1}', '{"st', '{"step": 2}']


def test_melodies_are_written_through_the_same_door(tmp_path, monkeypatch):
    pytest.importorskip("mido")
    bars = np.eye(128)[np.full((2, 16), 60)]
    monkeypatch.setattr(files, "open", FullDisk(10), raising=False)
    with pytest.raises(files.WriteError):
        music.write_midi(bars, tmp_path / "a.mid")
    assert not [*tmp_path.iterdir()]


# -------------------------------------------------------------------- nothing else writes

#: Modules that may: the writer itself, downloads that grow over several attempts, and the lock.
MAY_WRITE = ("files.py", "fetch.py", "locks.py")
#: Methods and functions that write a file under a path in place.
WRITING = ("write_text", "write_bytes", "savez", "savez_compressed", "replace", "rename", "truncate")


def writes(tree):
    """Lines of a module that write files themselves."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open":
            given = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "mode")]
            if any(set(str(getattr(mode, "value", "w"))) & set("wax+") for mode in given):
                yield node.lineno
        if not isinstance(function, ast.Attribute) or function.attr not in WRITING:
            continue
        owner, in_memory = ast.unparse(function.value), node.args and ast.unparse(node.args[0]) == "file"
        if owner == "os" or function.attr.startswith("write_") and owner != "files":
            yield node.lineno
        if function.attr.startswith("savez") and not in_memory:
            yield node.lineno


def test_the_package_writes_files_in_one_place_only():
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "tf_gan_zoo").rglob("*.py"))
        if path.name not in MAY_WRITE
        for line in writes(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found
    planted = "open(p, 'w')\nPath(p).write_text('')\nnp.savez(p)\nos.replace(a, b)\nopen(p)\nnp.savez(file)"
    assert sorted(writes(ast.parse(planted))) == [1, 2, 3, 4]
