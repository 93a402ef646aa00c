# Sourced by the other scripts: makes .venv in the checkout and installs the package into it.
# Usage: . scripts/environment.sh EXTRAS   (PYTHON chooses the interpreter, default python3)

python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null; then
    echo "tf_gan_zoo needs Python 3.10 to 3.13, but '$python' is $("$python" --version 2>&1 || echo missing)." >&2
    echo "Name another one: PYTHON=python3.12 bash $0" >&2
    exit 1
fi
if [ ! -x .venv/bin/python ]; then
    echo "Making a virtual environment in .venv"
    "$python" -m venv .venv || { echo "python3-venv may be missing: apt install python3-venv" >&2; exit 1; }
fi
echo "Installing tf_gan_zoo and what it needs (TensorFlow is large; a minute or more the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[$1]"
