"""Runs a command where the script `imgbench` is not installed.

python -m imgbench train --config=scenes --workdir=runs/demo
"""

from imgbench import commands

if __name__ == "__main__":
  commands.main()
