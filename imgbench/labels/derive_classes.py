"""Old path of `imgbench derive-classes`, kept for existing commands."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("derive-classes")
