"""Moved: this path starts `imgbench fake-imagenet`."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("fake-imagenet")
