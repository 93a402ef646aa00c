"""Commands on a system that refuses: one line, exit status 1 or 2, a traceback only with --debug."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tf_gan_zoo import cli

posix = pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")


def run(*words, **options):
    command = [sys.executable, "-m", "tf_gan_zoo", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


@pytest.mark.parametrize("error, line", [
    (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied. Choose a place that you"),
    (IsADirectoryError(21, "Is a directory", "/x"), "error: /x: Is a directory. It is a folder:"),
    (OSError(36, "File name too long", "a" * 300), "File name too long. Choose a shorter name."),
    (OSError(28, "No space left on device"), "error: No space left on device. Free space on the disk"),
    (FileExistsError(17, "File exists", "/a", None, "/b"), "error: /a -> /b: File exists. Choose"),
    (TimeoutError("took too long"), "error: took too long."),
    (OSError(), "error: OSError."),
])  # fmt: skip
def test_what_the_system_refuses_is_one_line(monkeypatch, capsys, error, line):
    def fail(**_):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert line in shown
    assert shown.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["tf-gan-zoo", "--debug"])
    with pytest.raises(type(error)):
        cli.main()


def test_ctrl_c_inside_a_command_is_one_line(monkeypatch, capsys):
    def fail(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--debug"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "interrupted\n"


def test_an_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    done = run("train", "dcgan", "--data", "glyphs", "--out", tmp_path / "file" / "run")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "file" in done.stderr.splitlines()[-1]


@posix
def test_a_reader_that_has_gone_is_no_error():
    program = subprocess.Popen(
        [sys.executable, "-m", "tf_gan_zoo", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    program.stdout.close()
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait(60) in (0, 1)


@posix
def test_ctrl_c_at_any_time_shows_no_traceback():
    """From the moment at which Python itself is ready."""
    draw = random.Random(0)
    code = "import sys; print('ready', flush=True); from tf_gan_zoo.__main__ import main; main()"
    for _ in range(8):
        program = subprocess.Popen(
            [sys.executable, "-c", code, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        program.stdout.readline()
        time.sleep(0.05 + draw.random())
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
        assert program.returncode in (0, 1)
        assert "Traceback" not in errors
