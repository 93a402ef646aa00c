"""Defends a run folder: against a second process that writes to it, and what a killed one leaves behind."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tf_gan_zoo import files, locks
from tf_gan_zoo.train import RunError, RunFolder, train

ROOT = Path(__file__).resolve().parents[2]
#: Without the package, which would import TensorFlow.
HOLDER = """
import importlib.util, pathlib, sys, time
spec = importlib.util.spec_from_file_location("locks", "tf_gan_zoo/locks.py")
locks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locks)
with locks.locked(pathlib.Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that works in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused_and_told_who_is_there(holder, tmp_path):
    started = rf"process {holder.pid} on .*, which began at \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    with pytest.raises(locks.LockedError, match=started), locks.locked(tmp_path / "run"):
        pytest.fail("two processes are in one folder")
    settings = {"image_size": 16, "width": 4}
    with pytest.raises(locks.LockedError, match="another run writes to"):
        train("dcgan", settings=settings, out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [locks.NAME]


def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / locks.NAME).exists()
    with locks.locked(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / locks.NAME).read_text()
    assert not (tmp_path / "run" / locks.NAME).exists()


def test_what_a_killed_run_leaves_does_not_block_its_folder(tmp_path):
    """A file `.writing-config.yaml` used to make the folder "not empty", for good."""
    dead = f"{files.PREFIX}{2**31 - 1}-"
    for name in (".writing-config.yaml", f"{dead}config.yaml", locks.NAME):
        (tmp_path / name).write_text("half")
    assert RunFolder(tmp_path).stored(resume=False) is None
    assert RunFolder(tmp_path).stored(resume=True) is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{dead}latest.weights.h5").write_text("half")
    files.remove_unfinished(tmp_path, below=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [locks.NAME, "checkpoints"]
    of_another = tmp_path / f"{files.PREFIX}{os.getppid()}-config.yaml"
    of_another.write_text("in the making")
    files.remove_unfinished(tmp_path)
    assert of_another.exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        RunFolder(tmp_path).stored(resume=False)


def test_only_one_of_many_threads_gets_in(tmp_path):
    inside, most, refused = [], [], []

    def work():
        for _ in range(50):
            try:
                with locks.locked(tmp_path / "run"):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
            except locks.LockedError:
                refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) + len(refused) == 200


def test_a_folder_that_stays_empty_is_removed_again(tmp_path):
    with pytest.raises(KeyError), locks.locked(tmp_path / "a" / "run"):
        raise KeyError
    assert not (tmp_path / "a" / "run").exists()
    with locks.locked(tmp_path):
        assert re.match(r'\{"process": \d+', (tmp_path / locks.NAME).read_text())
    assert tmp_path.exists()
