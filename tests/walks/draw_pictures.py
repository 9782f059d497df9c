"""Writes pictures in two classes: python draw_pictures.py FOLDER."""

import pathlib
import sys

import numpy as np
from PIL import Image


def main(folder: pathlib.Path) -> None:
  """Writes FOLDER/{train,val}/{blue,red}/*.png and *.jpg of several sizes."""
  random = np.random.default_rng(0)
  for split, count in (("train", 40), ("val", 8)):
    for channel, name in ((2, "blue"), (0, "red")):
      target = folder / split / name
      target.mkdir(parents=True)
      for i in range(count):
        size = (40 + i, 60)
        pixels = random.integers(0, 128, (*size, 3), dtype=np.uint8)
        pixels[..., channel] += 100
        suffix = "jpg" if i % 2 else "png"
        Image.fromarray(pixels).save(target / f"{i}.{suffix}")


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
