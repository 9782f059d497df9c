"""Moved: this path starts `imgbench sweep table`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("sweep table")
