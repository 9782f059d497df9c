"""Moved: this path starts `imgbench bench step`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("bench step")
