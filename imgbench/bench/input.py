"""Moved: this path starts `imgbench bench input`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("bench input")
