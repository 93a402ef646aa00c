#!/usr/bin/env bash
# From a fresh machine to a trained GAN: installs, trains DCGAN on letters, draws pictures, exports the generator.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh litert
exec .venv/bin/python scripts/quickstart.py "$@"
