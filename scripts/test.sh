#!/usr/bin/env bash
# Makes the environment if needed and runs the tests. Arguments go to pytest: scripts/test.sh -k dcgan
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh test
.venv/bin/ruff check .
# A test that hangs ends its worker after ten minutes; the run goes on without it.
exec .venv/bin/python -m pytest -n 2 --dist worksteal --timeout 600 --timeout-method thread "$@"
