"""Moved: this path starts `imgbench bench metrics`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("bench metrics")
