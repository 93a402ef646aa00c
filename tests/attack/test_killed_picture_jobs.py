"""Jobs on picture files that are killed, or whose disk is full: whole results or none, and they go on."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

COUNT = 60
JOB = """
import resource, sys
from tf_gan_zoo import pictures
negative = pictures.Conversion(lambda images, on_tile: -images)
files, targets, kind = pictures.plan([sys.argv[1]], "_new")
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
for outcome in pictures.convert_files(negative, files, targets):
    print(outcome.status, flush=True)
"""


def start(folder, *more):
    command = [sys.executable, "-c", JOB, str(folder), *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8)).save(tmp_path / f"{index}.png")
    return tmp_path


def whole_results(folder):
    """How many results there are; all of them must be right."""
    results = sorted(folder.glob("*_new.png"))
    for path in results:
        source = np.asarray(Image.open(folder / path.name.replace("_new", "")))
        np.testing.assert_array_equal(np.asarray(Image.open(path)), 255 - source)
    return len(results)


def test_a_killed_job_leaves_whole_results_and_goes_on(folder):
    dice, before = random.Random(0), 0
    for _ in range(5):
        job = start(folder)
        made = 0
        while made < 3 and (line := job.stdout.readline()):
            made += line == "written\n"
        time.sleep(dice.uniform(0, 0.02))
        job.send_signal(signal.SIGKILL)
        job.communicate()
        after = whole_results(folder)
        assert after > before or before == COUNT
        before = after
    printed, error = start(folder).communicate()
    assert (printed.count("exists"), printed.count("written")) == (before, COUNT - before), error
    assert whole_results(folder) == COUNT
    assert not list(folder.glob(".*"))


def test_a_file_size_limit_leaves_no_half_results(folder):
    Image.new("RGB", (96, 96)).save(folder / "flat.png")  # whose result is small enough
    printed, error = start(folder, 10_000).communicate()
    assert (printed.count("failed"), printed.count("written")) == (COUNT, 1), error
    assert [path.name for path in folder.glob("*_new.png")] == ["flat_new.png"]
    assert not list(folder.glob(".*"))
