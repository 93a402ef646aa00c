"""TensorFlow without its chatter.

TensorFlow's C++ code writes to the error stream, at start-up even before its log level applies. While it is
imported, or while it converts, that stream is collected; chatter is dropped, all else is passed on.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

#: Information lines, the notice about the log itself, and the search for a GPU where there is no driver.
_CHATTER = [rb"^I\d{4} ", rb"^WARNING: All log messages before absl::InitializeLog"]
_NO_GPU = rb"^E\d{4} .*cuInit"


def import_tensorflow() -> None:
    """Imports TensorFlow quietly, once; does nothing if it is already imported."""
    if "tensorflow" in sys.modules:
        return
    with filtered_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def filtered_stderr(*patterns: bytes) -> Iterator[None]:
    """Drops chatter, and lines that match one of the patterns, from the process's error stream."""
    try:
        saved = os.dup(2)
    except OSError:  # no error stream at all
        yield
        return
    with tempfile.TemporaryFile() as collected:
        os.dup2(collected.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            collected.seek(0)
            for line in collected:
                if not (_is_chatter(line) or any(re.match(pattern, line) for pattern in patterns)):
                    os.write(2, line)


def _is_chatter(line: bytes) -> bool:
    patterns = _CHATTER if os.path.exists("/proc/driver/nvidia") else [*_CHATTER, _NO_GPU]
    return any(re.match(pattern, line) for pattern in patterns)
