"""What importing the package does, seen from fresh processes; scripts and README in step with the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tf_gan_zoo
from tf_gan_zoo import _quiet

ROOT = Path(__file__).resolve().parent.parent


def run(code, **environment):
    base = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**base, **environment}, cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip


def test_import_sets_defaults_and_leaves_tensorflow_alone():
    show = (
        "import os, sys, tf_gan_zoo; "
        "print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'), 'tensorflow' in sys.modules)"
    )
    assert run(show).stdout.split() == ["1", "False"]
    assert run(show, TF_ENABLE_ONEDNN_OPTS="0").stdout.split() == ["0", "False"]
    imported = "import sys; sys.modules['tensorflow'] = object(); " + show
    assert run(imported).stdout.split() == ["None", "True"]


def test_start_up_is_quiet_but_errors_are_passed_on():
    models = ROOT / "tf_gan_zoo" / "models"
    result = run(
        "from tf_gan_zoo import zoo; import sys; print(zoo.list_models()[0]); print('oops', file=sys.stderr)"
    )
    assert result.stdout.strip() == min(path.stem for path in models.glob("[a-z]*.py"))
    assert result.stderr.strip() == "oops"


@pytest.mark.parametrize("line, chatter", [
    (b"I0000 00:00:1.2 3 port.cc:153] oneDNN custom operations are on.\n", True),
    (b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n", True),
    (b"E0000 00:00:1.2 3 allocator.cc:1] out of memory\n", False),
    (b"W0000 00:00:1.2 3 gpu.cc:1] Cannot dlopen some GPU libraries.\n", False),
    (b"Traceback (most recent call last):\n", False),
])  # fmt: skip
def test_only_chatter_is_dropped(line, chatter):
    assert _quiet._is_chatter(line) == chatter


def test_unknown_attributes_are_errors():
    import tf_gan_zoo as zoo

    with pytest.raises(AttributeError, match="no attribute 'gett'"):
        zoo.gett  # noqa: B018
    assert {"get", "load_dataset", "register"} <= set(dir(zoo))


def test_readme_table_is_up_to_date():
    command = [sys.executable, "scripts/make_model_table.py", "--check"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)


def test_benchmark_compares_all_three_kinds():
    command = [sys.executable, "scripts/benchmark.py", "train", "dcgan", "--rounds=1", "--steps=1"]
    command += ["--batch-size=2", "--set", "image_size=16", "--set", "width=4"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    rows = [line.split()[0] for line in result.stdout.splitlines() if "s/step" in line]
    assert rows == ["fit", "bare", "plain"]


def test_quickstart_trains_draws_and_exports(tmp_path):
    command = [sys.executable, "scripts/quickstart.py", "--out", str(tmp_path), "--set", "epochs=1"]
    command += ["--set", "steps_per_epoch=2", "--set", "data_options={num_examples: 256}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    saved = "saved_model/saved_model.pb"
    for name in ("letters.png", "walk.gif", "run/model.keras", saved, "generator.tflite"):
        assert (tmp_path / name).is_file()
        assert name.split("/")[0] in result.stdout
    weights = (tmp_path / "saved_model/variables/variables.data-00000-of-00001").stat().st_size
    assert (tmp_path / "generator.tflite").stat().st_size > weights / 2  # a file without weights is tiny


def test_one_version_everywhere():
    """The package's number is the one that the change log and the release notes begin with."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    notes = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Release notes")[2]
    first = [re.search(r"\d+\.\d+\.\d+", text)[0] for text in (changes, notes)]
    assert first == [tf_gan_zoo.__version__] * 2
