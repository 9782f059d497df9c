"""Moved: this path starts `imgbench bench papers`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("bench papers")
