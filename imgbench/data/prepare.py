"""Moved: this path starts `imgbench prepare`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("prepare")
