"""Configs and YAML files that mean harm or are simply wrong: refused at once, before anything is built.

Numbers that are not finite or not plausible, keys that stand twice, aliases that grow to gigabytes, documents
that nest without end, objects of Python.
"""

import contextlib
import subprocess
import sys
import time

import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import registry
from tf_gan_zoo.config import ConfigError, load_yaml, parse_settings, read_yaml, shortened

ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize("text, words", [
    (ALIAS_BOMB, "more than 10,000 values"),
    ("a: &a [*a]", "an alias that stands for itself"),
    ("epochs: 1\nseed: 2\nepochs: 3", "the key 'epochs' twice, in lines 1 and 3"),
    ("data_options:\n  flip: true\n  flip: false", "the key 'flip' twice, in lines 2 and 3"),
    ("[" * 5000, "RecursionError"),
    ("a: 2020-99-99", "month must be in"),
    ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
    ("a: " + "9" * 5000, "ValueError"),
    ("\x00", "not allowed"),
])  # fmt: skip
def test_hostile_documents_are_refused_at_once(tmp_path, text, words):
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=words):
        read_yaml(text)
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match="not valid YAML") as error:
        load_yaml(tmp_path / "x.yaml")
    assert len(str(error.value)) < 400 + len(str(tmp_path))
    assert time.monotonic() - begun < 5


def test_aliases_and_merged_mappings_of_sane_size_are_read():
    assert read_yaml("a: &a {k: 1}\nb: *a\nc: {<<: *a, j: 2}")["c"] == {"k": 1, "j": 2}


def test_huge_values_are_shortened_in_errors():
    with pytest.raises(ConfigError) as error:
        zoo.get("dcgan", image_size=list(range(100_000)))
    assert len(str(error.value)) < 1500
    with pytest.raises(ConfigError, match="too long to print"):
        zoo.get("dcgan", **parse_settings(["batch_size=0x" + "f" * 9000]))
    assert len(shortened("x" * 10_000)) < 100


@pytest.mark.parametrize("name", registry.names())
def test_numbers_that_are_not_finite_or_not_plausible_are_refused(name):
    """Every number field of every model, not only those that came to mind."""
    config_cls = registry.get_spec(name).config_cls
    wrong = {float: (float("nan"), float("inf"), -float("inf"), 1e300), int: (10**12, 10**30)}
    begun, tried = time.monotonic(), 0
    for field, value in config_cls().to_dict().items():
        kind = float if isinstance(value, float) else int
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        for bad in wrong[kind]:
            tried += 1
            with pytest.raises(ConfigError, match=f"{config_cls.__name__}.{field}: "):
                config_cls.from_dict({field: bad})
    assert tried > 10
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", registry.names())
def test_the_largest_integers_are_checked_at_once(name):
    """Refused or not: no loop runs as often as a field says."""
    config_cls, begun = registry.get_spec(name).config_cls, time.monotonic()
    for field, value in config_cls().to_dict().items():
        if type(value) is int or field == "image_size":
            for large in (2**31 - 1, 2**30, 21 << 24):
                with contextlib.suppress(ConfigError):
                    config_cls.from_dict({field: large})
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", registry.names())
def test_moments_and_dropout_rates_are_below_one(name):
    config_cls = registry.get_spec(name).config_cls
    stopping = ("beta_1", "beta_2", "momentum", "ema_decay", "averaging_decay", "rho")
    fields = [f for f in config_cls.field_names() if f in stopping or f.endswith("dropout")]
    for field in fields:
        with pytest.raises(ConfigError, match=f"{config_cls.__name__}.{field}: .*less than 1"):
            config_cls.from_dict({field: 1.0})


def test_the_shell_shows_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tf_gan_zoo", "train", "dcgan", "--set", "learning_rate=.inf", "--out",
         str(tmp_path / "x")], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "learning_rate" in done.stderr
    assert "Traceback" not in done.stderr
