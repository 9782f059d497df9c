#!/bin/sh
# all.sh [FOLDER]: builds the wheel and the source distribution, installs each in
# a clean environment, and runs programs and walks in empty folders. The folder,
# of which nothing is kept, must not exist. PYTHON: of this repository's
# environment. Reads the public prediction files in ../shared/data if they exist.
set -eu
walks=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$walks/../.." && pwd)
shared=${IMGBENCH_SHARED:-$project/../shared}/data
here=${PYTHON:-$project/.venv/bin/python}
work=${1:-$(mktemp -d)/walks}
mkdir "$work"
cd "$work"
trap 'rm -rf "$work"' EXIT
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"

# quietly COMMAND...: runs a command and prints what it wrote only if it fails.
# It takes one command, as `sh -e` does not end a function or a ( ) before `||`.
quietly() {
  "$@" > log.txt 2>&1 || { cat log.txt; exit 1; }
}

# try KIND COMMAND...: COMMAND starts `imgbench`; runs a few in an empty folder.
try() {
  echo "== $1"
  mkdir "try_$1"
  (
    cd "try_$1"
    shift
    "$@" --version
    quietly "$@" train --config=tiny --workdir=run \
      --config.steps.total="2 steps"
    [ -s run/report.html ]
  )
}

# try_more KIND: programs that an installed package must have as well. One kind
# will do: tests/packaging_test.py finds the same files in both distributions.
try_more() {
  (
    cd "try_$1"
    imgbench=$work/$1/bin/imgbench
    quietly "$imgbench" sweep --config=tiny --sweep_dir=sweep --jobs=2 \
      --config.steps.total="2 steps"
    quietly "$imgbench" bench --config=bench:quick --out=rows --dry_run
    if [ -d "$shared/ImageNetV2" ]; then
      quietly "$imgbench" paper imagenet-v2 --repo="$shared/ImageNetV2" --out=v2
    else
      echo "no prediction files in $shared: the paper is skipped"
    fi
  )
}

"$here" -m pip wheel --quiet --no-deps --wheel-dir=dist "$project"
(cd "$project" && "$here" -c "import sys
from setuptools import build_meta
build_meta.build_sdist(sys.argv[1])" "$work/dist" > /dev/null)
wheel=$(echo "$work"/dist/*.whl)
PYTHON=$here "$walks/install.sh" "$wheel" "$work/wheel"
PYTHON=$here "$walks/install.sh" "$(echo "$work"/dist/*.tar.gz)" "$work/sdist"
for kind in wheel sdist; do
  try $kind "$work/$kind/bin/imgbench"
done
try_more wheel
try editable "$(dirname "$here")/imgbench"
"$work/sdist/bin/python" -m pip uninstall --quiet --yes imgbench
try clone env PYTHONPATH="$project" "$work/sdist/bin/python" -m imgbench
rm -rf "$work/sdist"

if [ -d "$shared/ImageNetV2" ]; then
  export SHARED="$shared"
fi
for walk in student logits performance; do
  echo "== $walk"
  mkdir $walk
  (
    cd $walk
    VENV=$work/wheel "$walks/$walk.sh" "$wheel"
  )
done
