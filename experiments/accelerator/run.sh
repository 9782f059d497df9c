#!/bin/sh
# sh experiments/accelerator/run.sh KIT --out=DIR [flags]
# Installs a kit's wheels into a temporary folder, beside the packages that the
# host's Python has, and runs the suite. PYTHON=... chooses the interpreter.
set -eu
kit=$1
shift
site=$(mktemp -d)
"${PYTHON:-python3}" -m pip install --quiet --no-index --no-deps --no-compile \
  --disable-pip-version-check --root-user-action=ignore --target "$site" \
  "$kit"/wheels/*.whl
PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${PYTHON:-python3}" -m experiments.accelerator --kit="$kit" "$@"
