"""Moved: this path starts `imgbench derive-classes`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("derive-classes")
