"""The program `tf-gan-zoo`, also as `python -m tf_gan_zoo`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the program; no traceback of Ctrl-C during the import, nor of a reader that has gone."""
    try:
        from tf_gan_zoo.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(1) from None
    finally:
        _flush()


def _flush() -> None:
    """Writes what is left; where the reader has gone, Python would complain at the very end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
