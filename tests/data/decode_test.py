"""Tests of decoders against Pillow, and on unusual files."""

import io
import sys
import threading
import time

import numpy as np
from PIL import Image
import pytest
import simplejpeg

from imgbench import errors
from imgbench.data import decode
from imgbench.data import jpeg_frame
from imgbench.data import turbo
from tests import raising
from tests.data import decoders
from tests.data import encoded_images

NAMES = decoders.NAMES
PHOTO = encoded_images.photo(151, 200)
JPEG = encoded_images.encode(PHOTO)
BOX = (20.5, 31.0, 96.0, 120.25)


def _crop(name, data, box=BOX, size=64, method="bilinear", exact=True):
  out = np.empty((size, size, 3), np.uint8)
  given = box if callable(box) else lambda height, width: box
  decode.build_decoder(name, exact).crop_resize(data, out, given, method)
  return out


def _whole(name, data):
  """Returns all pixels of a square image."""
  size = Image.open(io.BytesIO(data)).size[0]
  return _crop(name, data, lambda h, w: (0, 0, h, w), size)


def _assert_close(got, expected, most=2, mean=0.05):
  largest, average = encoded_images.far_apart(got, expected)
  assert largest <= most and average <= mean


def test_auto_is_the_fastest():
  decoder = decode.build_decoder()
  slower, fastest = decode.SimpleJpegDecoder, decode.TurboDecoder
  assert type(decoder) is (slower if turbo.missing() else fastest)
  assert decode.build_decoder(exact=True).version != decoder.version


def test_versions_say_which_library():
  for decoder in decode.build_decoder(), decode.build_decoder("simplejpeg"):
    by_turbo = isinstance(decoder, decode.TurboDecoder)
    library = "libjpeg-turbo " if by_turbo else "simplejpeg 1"
    assert decoder.version.startswith(library)


def test_unknown_name():
  about = raising.about("decoder", given="'djpeg'")
  with pytest.raises(errors.InputError, check=about) as caught:
    decode.build_decoder("djpeg")
  assert "auto" in caught.value.expected and "pillow" in caught.value.expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(
  "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str
)
def test_pixels_of_pillow(name, subsampling, options):
  """Also where only the rows down to the crop are decoded."""
  data = encoded_images.encode(PHOTO, subsampling=subsampling, **options)
  whole = Image.open(io.BytesIO(data))
  for box in ((0, 0, 151, 200), BOX, (3, 5, 33.25, 70), (0, 0, 70, 180)):
    for method in ("bilinear", "bicubic"):
      _assert_close(
        _crop(name, data, box, method=method),
        encoded_images.resized(whole, box, 64, method),
      )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_scaled_decode_keeps_the_place(name, factor):
  """Nothing moves by as much as half a pixel; the slope is 1 per 3 pixels."""
  data = encoded_images.encode(encoded_images.gradient(613, 589), quality=98)
  whole = Image.open(io.BytesIO(data))
  size = 32
  rows = factor * size + 0.25
  box = 40.75, 33.5, rows, rows * 1.2
  exact = _crop(name, data, box, size)
  scaled = _crop(name, data, box, size, exact=False)
  _assert_close(exact, encoded_images.resized(whole, box, size, "bilinear"))
  _assert_close(scaled, exact, most=2 + factor // 4, mean=0.6)
  assert (scaled != exact).any()


@pytest.mark.parametrize("name", NAMES)
def test_no_scaled_decode_below_twice_the_target(name):
  box = 3, 4, 127, 140
  np.testing.assert_array_equal(
    _crop(name, JPEG, box, exact=False), _crop(name, JPEG, box)
  )


def test_the_fast_dct_is_asked_for_by_name_and_never_exact():
  box = 3, 4, 127, 140
  exact = _crop("simplejpeg", JPEG, box)
  fast = simplejpeg.decode_jpeg(JPEG, fastdct=True)
  got = _crop("simplejpeg_fast", JPEG, box, exact=False)
  _assert_close(got, encoded_images.resized(fast, box, 64, "bilinear"))
  most, mean = encoded_images.far_apart(got, exact)
  assert 0.1 < mean < 1.5 and most <= 6
  np.testing.assert_array_equal(_crop("simplejpeg_fast", JPEG, box), exact)
  versions = {
    decode.build_decoder(name, exact).version
    for name in ("simplejpeg", "simplejpeg_fast")
    for exact in (False, True)
  }
  assert len(versions) == 3


@pytest.mark.parametrize("name", NAMES)
def test_the_box_is_asked_once_and_only_the_slot_is_written(name):
  asked = []
  batch = np.full((3, 48, 48, 3), 7, np.uint8)

  def box(height, width):
    asked.append((height, width))
    return 1, 2, 90, 100

  decode.build_decoder(name).crop_resize(JPEG, batch[1], box)
  assert asked == [(151, 200)]
  assert (batch[[0, 2]] == 7).all() and (batch[1] != 7).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
  "box", [(-1, 0, 9, 9), (0, 0, 152, 9), (0, 150, 9, 51), (0, 0, 0, 9)]
)
def test_box_outside(name, box):
  with pytest.raises(ValueError, match="151x200"):
    _crop(name, JPEG, box)


@pytest.mark.parametrize("name", NAMES)
class TestOddFiles:
  """Files of real data sets that are not plain JPEGs."""

  square = encoded_images.photo(64, 64)

  def test_grey_jpeg(self, name):
    data = encoded_images.encode(self.square[..., 0])
    got = _whole(name, data)
    assert (got[..., :1] == got).all()
    np.testing.assert_array_equal(
      got[..., 0], np.asarray(Image.open(io.BytesIO(data)))
    )

  def test_cmyk_jpeg_is_inverted_as_adobe_does(self, name):
    """Ink by hand: 0 is full ink in the file, so 255 - ink is stored."""
    ink = np.zeros((64, 64, 4), np.uint8)
    ink[:32] = 255, 0, 0, 0
    ink[32:] = 0, 0, 255, 51
    data = encoded_images.encode(
      Image.fromarray(ink, "CMYK"), quality=100, subsampling=0
    )
    assert b"Adobe" in data
    got = _whole(name, data)
    _assert_close(got[:24], np.broadcast_to((0, 255, 255), (24, 64, 3)), 2, 2)
    _assert_close(got[40:], np.broadcast_to((204, 204, 0), (24, 64, 3)), 2, 2)

  @pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
  def test_png(self, name, mode):
    image = Image.fromarray(self.square).convert(mode)
    got = _whole(name, encoded_images.encode(image, "PNG"))
    np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")))

  def test_alpha_is_dropped_not_blended(self, name):
    alpha = np.arange(64, dtype=np.uint8)[:, None].repeat(64, 1)
    rgba = np.dstack([self.square, alpha])
    np.testing.assert_array_equal(
      _whole(name, encoded_images.encode(rgba, "PNG")), self.square
    )
    grey = Image.merge(
      "LA", [Image.fromarray(self.square[..., 0]), Image.fromarray(alpha)]
    )
    np.testing.assert_array_equal(
      _whole(name, encoded_images.encode(grey, "PNG"))[..., 1],
      self.square[..., 0],
    )

  def test_transparent_palette(self, name, recwarn):
    image = Image.fromarray(self.square).quantize(16)
    data = encoded_images.encode(image, "PNG", transparency=b"\0\x80" * 8)
    np.testing.assert_array_equal(
      _whole(name, data), np.asarray(image.convert("RGB"))
    )
    assert not recwarn.list

  def test_16_bits_keep_the_high_byte(self, name):
    levels = np.random.default_rng(0).integers(0, 65536, (64, 64, 3))
    high = (levels >> 8).astype(np.uint8)
    np.testing.assert_array_equal(
      _whole(name, encoded_images.png_of_16_bits(levels)), high
    )
    grey = Image.fromarray(levels[..., 0].astype(np.uint16))
    got = _whole(name, encoded_images.encode(grey, "PNG"))
    np.testing.assert_array_equal(got, high[..., :1].repeat(3, -1))

  def test_orientation_is_ignored(self, name):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    data = encoded_images.encode(PHOTO, exif=exif)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    np.testing.assert_array_equal(_crop(name, data), _crop(name, JPEG))

  @pytest.mark.parametrize("box", [BOX, (0, 0, 60, 60), (0, 0, 151, 200)])
  def test_extraneous_bytes(self, name, box):
    expected = _crop(name, JPEG, box)
    for data in (
      JPEG + b"\0 and more" * 50,
      JPEG[:-2] + b"\0" * 33 + JPEG[-2:],
    ):
      np.testing.assert_array_equal(_crop(name, data, box), expected)
    unknown_revision = JPEG.replace(b"JFIF\0\1", b"JFIF\0\7")
    _assert_close(_crop(name, unknown_revision, box), expected)

  @pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"GIF89a" * 9, JPEG[:300], b"\x89PNG\r\n"]
  )
  def test_no_image(self, name, data):
    with pytest.raises(decode.DecodeError, match="image cannot"):
      _crop(name, data)

  def test_absurd_size(self, name):
    at = JPEG.index(b"\xff\xc0") + 5
    data = JPEG[:at] + b"\xff\xf0\xff\xf0" + JPEG[at + 4 :]
    with pytest.raises(decode.DecodeError, match="65520x65520"):
      _crop(name, data)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("box", [BOX, (0, 0, 30, 40)], ids=str)
def test_a_jpeg_truncated_anywhere_is_an_error(name, options, box):
  """Also where the crop ends before it does; never a half-grey image."""
  data = encoded_images.encode(PHOTO, **options)
  cuts = (*range(0, len(data) - 2, 997), len(data) - 2, len(data) - 1)
  for cut in cuts:
    with pytest.raises(decode.DecodeError):
      _crop(name, data[:cut], box)


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_png_is_an_error(name):
  data = encoded_images.encode(PHOTO, "PNG")
  for cut in range(0, len(data) - 100, 4999):
    with pytest.raises(decode.DecodeError):
      _crop(name, data[:cut])


@pytest.mark.parametrize("name", decoders.STRICT)
@pytest.mark.parametrize("box", [(60, 0, 91, 200), (0, 0, 151, 200)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
def test_an_end_put_after_half_of_the_data_is_noticed(name, box, options):
  data = encoded_images.encode(PHOTO, **options)
  data = data[: len(data) // 3] + b"\xff\xd9"
  with pytest.raises(decode.DecodeError, match="premature end"):
    _crop(name, data, box)


@pytest.mark.parametrize("name", decoders.STRICT)
def test_restart_markers_do_not_hide_damage(name):
  """Left-over rows and damage both end in "extraneous bytes before"."""
  data = encoded_images.encode(PHOTO, restart_marker_rows=1)
  first = data.index(b"\xff\xd0")
  hole = data[: first + 40] + data[data.index(b"\xff\xd3") :]
  with pytest.raises(decode.DecodeError, match="damaged"):
    _crop(name, hole, (0, 0, 80, 80))


@pytest.mark.parametrize("name", NAMES)
def test_threads_do_not_mix_their_images(name):
  files = [
    encoded_images.encode(encoded_images.photo(100 + 9 * i, 130, i))
    for i in range(8)
  ]
  alone = [_crop(name, data, (2, 3, 90, 101)) for data in files]
  decoder = decode.build_decoder(name, exact=True)
  batch = np.zeros((2, 8, 64, 64, 3), np.uint8)

  def fill(slots, order):
    for _ in range(4):
      for i in order:
        decoder.crop_resize(files[i], slots[i], lambda h, w: (2, 3, 90, 101))

  orders = range(8), range(7, -1, -1)
  threads = [
    threading.Thread(target=fill, args=pair)
    for pair in zip(batch, orders, strict=True)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  np.testing.assert_array_equal(batch, np.stack([alone, alone]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["decode", "resize"])
def test_the_interpreter_is_free_meanwhile(name, part):
  """This thread can run only if the other releases the lock."""
  shape = (3000, 3000) if part == "decode" else (16, 16)
  data = encoded_images.encode(encoded_images.gradient(*shape))
  size = 16 if part == "decode" else 3000
  decoder = decode.build_decoder(name, exact=True)
  out = np.empty((size, size, 3), np.uint8)
  inside, done = threading.Event(), threading.Event()

  def box(height, width):
    inside.set()
    return 0, 0, height, width

  def work():
    decoder.crop_resize(data, out, box)
    done.set()

  interval = sys.getswitchinterval()
  thread = threading.Thread(target=work)
  sys.setswitchinterval(100)  # no thread is forced to release the lock
  try:
    thread.start()
    inside.wait()
    ran_meanwhile = 0
    while not done.is_set():
      ran_meanwhile += 1
      time.sleep(0.0005)
  finally:
    sys.setswitchinterval(interval)
  thread.join()
  assert ran_meanwhile > 1


def test_rows_below_the_crop_are_not_decoded():
  frame = jpeg_frame.parse(JPEG)
  decoder = decode.SimpleJpegDecoder()
  assert decoder._decode(JPEG, frame, 40, 1).shape == (40, 200, 3)
  assert decoder._decode(JPEG, frame, 40, 2).shape == (20, 100, 3)
  assert decoder._decode(JPEG, frame, 140, 1).shape == (151, 200, 3)
