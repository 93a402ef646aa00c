#!/usr/bin/env bash
# Makes the environment if needed and runs the tests. Arguments go to pytest: scripts/test.sh -k dcgan
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh test
.venv/bin/ruff check .
exec .venv/bin/python -m pytest -n 2 --dist worksteal "$@"
