# Begins a walk: an empty folder in which only a wheel is installed. Sourced with
# the wheel as $1. VENV: an environment that has it already; else ./venv is made.
# Defines `step`, `expect` and `imgbench`; any command that fails ends the walk.
set -eu
walks=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$walks/../.." && pwd)
wheel=$(cd "$(dirname "${1:?usage: $0 WHEEL}")" && pwd)/$(basename "$1")
[ -z "$(ls -A)" ] || { echo "start this in an empty folder" >&2; exit 2; }
if [ -z "${VENV:-}" ]; then
  VENV=$PWD/venv
  "$walks/install.sh" "$wheel" "$VENV"
fi
unset PYTHONPATH
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
python=$VENV/bin/python

imgbench() { "$VENV/bin/imgbench" "$@"; }

# Prints the heading of a part.
step() { printf '\n== %s\n' "$*"; }

# expect CODE COMMAND...: runs a command that ends with this exit code.
expect() {
  wanted=$1
  shift
  code=0
  "$@" > expected.txt 2>&1 || code=$?
  [ "$code" = "$wanted" ] || {
    cat expected.txt
    echo "expected exit code $wanted, got $code: $*" >&2
    exit 1
  }
  tail -n 1 expected.txt
}

# The package comes from the wheel, not from the repository.
"$python" -c "import imgbench, sys
assert imgbench.__file__.startswith(sys.prefix), imgbench.__file__"
