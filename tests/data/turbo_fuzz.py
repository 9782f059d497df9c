"""Decodes damaged JPEGs: python -m tests.data.turbo_fuzz SEED COUNT.

Prints the outcomes and the growth of memory in the second half, as JSON.
"""

import json
import sys

import numpy as np
import simplejpeg

from imgbench.data import decode
from imgbench.data import jpeg_frame
from imgbench.data import turbo
from imgbench.experiments.benchmarks.input import ours
from tests.data import encoded_images


def files() -> list[bytes]:
  """Returns small JPEGs of every kind."""
  photo = encoded_images.photo(61, 83)
  encode = encoded_images.encode
  kinds = ("444", "422", "420", "440", "411")
  return [
    *(simplejpeg.encode_jpeg(photo, 90, colorsubsampling=k) for k in kinds),
    encode(photo[..., 0]),
    encode(photo, progressive=True),
    encode(photo, progressive=True, subsampling=0),
    encode(photo, restart_marker_rows=1),
    encode(photo, restart_marker_blocks=1),
    encode(photo[:1, :1]),
  ]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
  """Returns the file with random changes."""
  data = bytearray(data)
  for _ in range(rng.integers(1, 5)):
    at = int(rng.integers(2, len(data)))
    kind = rng.integers(5)
    if kind == 0:
      data[at] = rng.integers(256)
    elif kind == 1:
      data[at] ^= 1 << rng.integers(8)
    elif kind == 2:
      data[at : at + 2] = 0xFF, rng.integers(256)
    elif kind == 3:
      del data[at : at + rng.integers(1, 40)]
    else:
      data[at:at] = rng.bytes(rng.integers(1, 40))
    if len(data) < 4:
      break
  return bytes(data)


def run(seed: int, count: int) -> dict[str, int]:
  """Returns the outcomes of `count` damaged files."""
  rng = np.random.default_rng(seed)
  sources = files()
  out = np.empty((16, 16, 3), np.uint8)
  decoder = decode.build_decoder("turbo")
  found = {"good": 0, "bad": 0, "problems": 0}
  for number in range(count):
    if number == count // 2:
      before = ours.read_resident_bytes()
    data = damaged(sources[number % len(sources)], rng)
    try:
      decoder.crop_resize(data, out, lambda h, w: (h / 4, w / 3, h / 2, w / 2))
      found["good"] += 1
    except decode.DecodeError:
      found["bad"] += 1
    # Also the files that the decoder would leave to Pillow, at any size.
    frame = jpeg_frame.parse(data)
    if frame is None or frame.height * frame.width > 2**22:
      continue
    box = 0.0, 0.0, float(frame.height), float(frame.width)
    factor = 1 << int(rng.integers(4))
    problem = turbo.crop_resize(data, frame, factor, box, out, "bicubic")
    found["problems"] += bool(problem)
  found["grown_bytes"] = ours.read_resident_bytes() - before
  return found


if __name__ == "__main__":
  print(json.dumps(run(*map(int, sys.argv[1:]))))
