"""Where the images of a data set are, and reading them.

dataset.images of a database is a JSON object, one of
  {"folder": PATH}  files named by image id, perhaps in folders by class
  {"set": NAME, "split": SPLIT, "data_dir": PATH}  a prepared TFDS set
  {"run": PATH, "key": KEY}  an evaluation set of a run
"""

from collections.abc import Callable
from collections.abc import Mapping
import io
import os
import pathlib
import re

import numpy as np
from PIL import Image
from PIL import ImageOps

from imgbench import data
from imgbench import errors
from imgbench import run_files
from imgbench.data import image_decode
from imgbench.data import source
from imgbench.labels import review_table
from imgbench.report import inputs

Reader = Callable[[str], bytes | np.ndarray | None]
_SUFFIXES = (".jpeg", ".jpg", ".png")
_SMALL = 64  # pixels of the smaller side below which images stay lossless


def parse(text: str) -> dict[str, str]:
  """Returns where images are, of FOLDER or NAME:SPLIT@DATA_DIR of TFDS."""
  if pathlib.Path(text).is_dir():
    return {"folder": os.path.abspath(text)}
  match = re.fullmatch(r"([^:@]+):([^@]+)@(.+)", text)
  if not match:
    expected = "SET=FOLDER or SET=NAME:SPLIT@DATA_DIR"
    raise errors.InputError("--images", expected, text)
  place = os.path.abspath(match[3])
  return {"set": match[1], "split": match[2], "data_dir": place}


def open_images(spec: Mapping[str, str]) -> Reader:
  """Returns a function from image id to an encoded image or uint8 [H, W, 3].

  It returns None for an image that is missing or outside the folder, and for a
  file that is neither a JPEG nor a PNG.

  Raises:
    InputError: no such folder, set or run.
  """
  if "folder" in spec:
    return _open_folder(pathlib.Path(spec["folder"]))
  return _open_source(open_source(spec))


def open_source(spec: Mapping[str, str]) -> source.AnySource:
  """Returns the data of a set or run. Raises InputError."""
  if "run" in spec:
    from imgbench import compare  # It imports pandas, in most of a second.

    folder = run_files.reach_finished(spec["run"], "images")
    return compare.open_set(inputs.read(folder), spec["key"])
  fields = {name: spec[name] for name in ("split", "data_dir")}
  name = spec["set"]
  return data.open_split("images", "split", name=name, options={}, **fields)


def read_examples(found: source.AnySource) -> source.Examples:
  """Returns the examples of a set, without images if it is streamed."""
  streamed = isinstance(found, source.EncodedSource)
  return found.examples() if streamed else found.load()


def _open_folder(root: pathlib.Path) -> Reader:
  root = root.resolve()
  errors.check(root.is_dir(), "images", "a folder", root)
  places: dict[str, pathlib.Path | None] = {}
  for folder, _, files in os.walk(root):
    for path in (pathlib.Path(folder, file) for file in files):
      if path.suffix.lower() in _SUFFIXES:
        for name in {path.name, path.stem, str(path.relative_to(root))}:
          # Two files of one name are no image's.
          places[name] = None if name in places else path

  def read(name: str) -> bytes | None:
    path = places.get(name) or places.get(review_table.find_id(name))
    # A link may lead out of the folder.
    if path is None or not path.resolve().is_relative_to(root):
      return None
    try:
      encoded = path.read_bytes()
    except OSError:
      return None
    return (
      encoded if image_decode.find_kind(encoded) in ("JPEG", "PNG") else None
    )

  return read


def _open_source(found: source.AnySource) -> Reader:
  examples = read_examples(found)
  names = map(review_table.find_id, examples.image_id.tolist())
  places = {name: place for place, name in enumerate(names)}

  def read(name: str) -> bytes | np.ndarray | None:
    place = places.get(review_table.find_id(name))
    if place is None:
      return None
    if examples.image is not None:
      image = examples.image[place]
      return np.broadcast_to(image, (*image.shape[:2], 3))
    try:
      return found.read(place)[0]
    except (errors.InputError, OSError):
      return None

  return read


def encode(found: bytes | np.ndarray) -> tuple[bytes, str]:
  """Returns an image without its metadata, as JPEG or PNG, and its type."""
  if isinstance(found, bytes):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(found)))
    found = np.asarray(image.convert("RGB"))
  kind = "png" if min(found.shape[:2]) < _SMALL else "jpeg"
  buffer = io.BytesIO()
  Image.fromarray(found).save(buffer, kind, quality=92)
  return buffer.getvalue(), f"image/{kind}"
