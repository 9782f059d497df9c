"""Old path of `imgbench sweep table`, kept for existing commands."""

from imgbench import commands

if __name__ == "__main__":
  commands.start("sweep table")
