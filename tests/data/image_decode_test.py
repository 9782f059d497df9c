"""Tests of batch decoding: Pillow's pixels, other shapes refused."""

import io

import numpy as np
from PIL import Image
import pytest

from imgbench.data import image_decode
from tests.data import tiny_tfds


def _encode(image: Image.Image, image_format: str) -> bytes:
  file = io.BytesIO()
  image.save(file, image_format)
  return file.getvalue()


@pytest.mark.parametrize("shape", [(8, 6, 3), (8, 6, 1)])
def test_png_is_lossless(shape):
  images = tiny_tfds.images(5, shape)
  out = np.empty_like(images)
  image_decode.decode_batch([tiny_tfds.encode(i) for i in images], out)
  np.testing.assert_array_equal(out, images)


def test_jpeg_equals_pillow():
  data = tiny_tfds.encode(tiny_tfds.images(1, (20, 30, 3))[0], "JPEG")
  with Image.open(io.BytesIO(data)) as image:
    expected = np.asarray(image)
  np.testing.assert_array_equal(
    image_decode.decode(data, (20, 30, 3)), expected
  )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_other_modes_become_rgb_without_invention(mode):
  image = Image.fromarray(tiny_tfds.images(1)[0]).convert(mode)
  decoded = image_decode.decode(_encode(image, "PNG"), (8, 8, 3))
  if mode == "RGBA":
    expected = np.asarray(image)[..., :3]
  elif mode == "L":
    expected = np.repeat(np.asarray(image)[..., None], 3, axis=-1)
  else:
    palette = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    expected = palette[np.asarray(image)]
  np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (lambda png, jpeg: b"GIF89a" + bytes(50), "a GIF image"),
    (lambda png, jpeg: b"", "b''"),
    (lambda png, jpeg: png[:60], "decoded"),
    (lambda png, jpeg: jpeg[:-80], "decoded"),
    (lambda png, jpeg: jpeg[:30], "decoded"),
    (
      lambda png, jpeg: tiny_tfds.encode(tiny_tfds.images(1, (8, 9, 3))[0]),
      "8x8 .*8x9",
    ),
    (
      lambda png, jpeg: _encode(Image.new("CMYK", (8, 8)), "JPEG"),
      "8x8 .CMYK.",
    ),
    (
      lambda png, jpeg: _encode(Image.new("I;16", (8, 8)), "PNG"),
      "8x8 .I;16.",
    ),
  ],
)
def test_a_bad_image_is_named_by_its_place(data, reason):
  good = tiny_tfds.images(1)[0]
  png, jpeg = tiny_tfds.encode(good), tiny_tfds.encode(good, "JPEG")
  out = np.empty((3, 8, 8, 3), np.uint8)
  with pytest.raises(image_decode.BatchDecodeError, match=reason) as caught:
    image_decode.decode_batch([png, jpeg, data(png, jpeg)], out)
  assert caught.value.index == 2


def test_colour_is_not_made_grey():
  png = tiny_tfds.encode(tiny_tfds.images(1)[0])
  with pytest.raises(image_decode.BatchDecodeError, match="8x8 .RGB."):
    image_decode.decode(png, (8, 8, 1))
