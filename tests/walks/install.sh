#!/bin/sh
# install.sh FILE VENV: installs a wheel or source distribution, with the pinned
# versions of its dependencies, into a new environment.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$("$project/.ci/find-python" 3.11 3.12 3.13)}
"$python" -m venv "$2"
cd "$project" # Options of pip name files in it.
"$2/bin/python" -m pip install --quiet $(.ci/pip-constraints "$python") \
  "imgbench[export] @ file://$1"
