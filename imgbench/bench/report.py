"""Moved: this path starts `imgbench bench report`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("bench report")
