"""The standing attack of scripts/attack.py: 2,000 tries find nothing wrong, and it can find something."""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "scripts"))

import attack  # noqa: E402


def test_two_thousand_malformed_inputs_are_refused_or_harmless(capsys):
    begun = time.monotonic()
    quick = [name for name in attack.ATTACKS if name not in (*attack.SLOW, "run-folders")]
    figures = attack.run(quick, seconds=60, tries=2000)
    print(attack.summary(figures))
    assert "wrong" not in figures, capsys.readouterr().out
    assert figures["refused"] + figures["fine"] == 2000
    assert figures["refused"] > 1000
    assert time.monotonic() - begun < 60
    for name in quick:
        assert figures[f"{name}: refused"] > 0


@pytest.mark.parametrize("fault", [ValueError("raw"), attack.fetch.WeightsError("x" * 30_000)])
def test_a_raw_exception_or_an_endless_message_is_found(monkeypatch, capsys, fault):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(attack.weights, "load", fail)
    figures = attack.run(["archives"], seconds=30, tries=3)
    assert figures["wrong"] == 3
    assert "wrong: --only archives --seed 0 --tries 1" in capsys.readouterr().out


def test_damaged_run_folders_are_refused_or_harmless(capsys):
    figures = attack.run(["run-folders"], seconds=60, tries=15)
    assert "wrong" not in figures, capsys.readouterr().out
    assert figures["refused"] > 3


@pytest.mark.slow
def test_killed_trainings_end_with_the_same_weights(capsys):
    figures = attack.run(["kills"], seconds=600, tries=3)
    assert figures["fine"] == 3, capsys.readouterr().out
