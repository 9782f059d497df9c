"""Tests of the compiled decoder: against Pillow, damaged files, not built."""

import ctypes
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

from absl import logging
import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest
import simplejpeg

from imgbench import errors
from imgbench.data import decode
from imgbench.data import jpeg_frame
from imgbench.data import resample
from imgbench.data import turbo
from tests import raising
from tests.data import encoded_images
from tests.data import turbo_fuzz
from tests.train import processes

SOURCE = pathlib.Path(turbo.__file__).with_name("turbo.c")
SAMPLINGS = ("444", "422", "420", "440", "411")
built = pytest.mark.skipif(bool(turbo.missing()), reason=turbo.missing())


def _compile(*options: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    ["gcc", "-O3", "-Wall", "-Wextra", "-Werror", *options, str(SOURCE)],
    capture_output=True,
    text=True,
    check=False,
  )


def _crop(data, box, shape, method="bilinear", factor=1):
  """Returns uint8 [*shape, 3]; asserts that there is no problem."""
  out = np.empty((*shape, 3), np.uint8)
  frame = jpeg_frame.parse(data)
  assert not turbo.crop_resize(data, frame, factor, box, out, method)
  return out


def _whole(data, factor=1):
  """Returns the image at 1 / factor of its size, not resized."""
  frame = jpeg_frame.parse(data)
  shape = -(-frame.height // factor), -(-frame.width // factor)
  return _crop(data, (0, 0, *(factor * n for n in shape)), shape, factor=factor)


def _encode(pixels, kind: str) -> bytes:
  if kind in SAMPLINGS:
    return simplejpeg.encode_jpeg(pixels, 92, colorsubsampling=kind)
  options = {
    "grey": {},
    "progressive": {"progressive": True, "subsampling": 2},
    "restarts": {"restart_marker_blocks": 3},
  }
  pixels = pixels[..., 0] if kind == "grey" else pixels
  return encoded_images.encode(pixels, **options[kind])


KINDS = (*SAMPLINGS, "grey", "progressive", "restarts")


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_it_is_built_where_it_can_be(tmp_path):
  """Without a warning; CI does not skip if it was not built."""
  if _compile("-E").returncode:
    pytest.skip("needs the header of libjpeg-turbo 2.1 or newer")
  result = _compile("-c", "-o", str(tmp_path / "turbo.o"))
  assert result.returncode == 0, result.stderr
  if os.environ.get("CI"):
    assert not turbo.missing()


@built
@pytest.mark.parametrize("kind", KINDS)
@hypothesis.settings(max_examples=40)
@hypothesis.given(st.data())
def test_any_box_is_pillows_resize_of_the_whole_image(kind, data):
  """Exactly: neither the region nor the arithmetic makes a difference."""
  draw = data.draw
  height, width = draw(st.integers(1, 99)), draw(st.integers(1, 99))
  photo = encoded_images.photo(height + 1, width + 1)[:height, :width].copy()
  encoded = _encode(photo, kind)
  factor = draw(st.sampled_from([1, 2, 4, 8]))
  method = draw(st.sampled_from(resample.METHODS))
  pixels = _whole(encoded, factor)
  part = st.floats(0, 1) | st.sampled_from([0.0, 1.0])
  least = 0.05
  rows = least + draw(part) * (pixels.shape[0] - least)
  columns = least + draw(part) * (pixels.shape[1] - least)
  top = draw(part) * (pixels.shape[0] - rows)
  left = draw(part) * (pixels.shape[1] - columns)
  size = draw(st.integers(1, 40))
  hypothesis.assume(
    np.float32(top + rows) <= pixels.shape[0]
    and np.float32(left + columns) <= pixels.shape[1]
  )
  box = tuple(factor * v for v in (top, left, rows, columns))
  np.testing.assert_array_equal(
    _crop(encoded, box, (size, size), method, factor),
    encoded_images.resized(pixels, (top, left, rows, columns), size, method),
  )


@built
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_every_border_of_a_region(kind, factor):
  """Also beside and across the blocks that are decoded together."""
  data = _encode(encoded_images.photo(75, 149), kind)
  pixels = _whole(data, factor)
  height, width = pixels.shape[:2]

  def check(top, left, rows, columns):
    box = tuple(factor * v for v in (top, left, rows, columns))
    np.testing.assert_array_equal(
      _crop(data, box, (rows, columns), "bilinear", factor),
      pixels[top : top + rows, left : left + columns],
      err_msg=f"{(top, left, rows, columns)}",
    )

  for left in range(width):
    for columns in {1, 2, min(17, width - left), width - left}:
      if left + columns <= width:
        check(height // 2, left, 1, columns)
  for top in range(height):
    for rows in {1, 2, min(17, height - top), height - top}:
      if top + rows <= height:
        check(top, width // 3, rows, min(4, width - width // 3))


@built
@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_of_the_libraries(kind):
  """Pillow and simplejpeg may come with another version of libjpeg-turbo."""
  data = _encode(encoded_images.photo(75, 149), kind)
  got = _whole(data)
  for expected in (
    simplejpeg.decode_jpeg(data, "RGB"),
    np.asarray(Image.open(io.BytesIO(data)).convert("RGB")),
  ):
    most, mean = encoded_images.far_apart(got, expected)
    assert most <= 2 and mean < 0.05


@built
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (8, 8)])
def test_extreme_sizes(shape):
  pixels = encoded_images.gradient(*shape)
  data = encoded_images.encode(pixels, subsampling=2)
  for method in resample.METHODS:
    for size in (1, 3, 700):
      box = (0, 0, *shape)
      np.testing.assert_array_equal(
        _crop(data, box, (size, size), method),
        encoded_images.resized(_whole(data), box, size, method),
      )


@built
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_what_it_is_for_simplejpeg(kind):
  """Of two problems only one may be reported."""
  data = _encode(encoded_images.photo(40, 56), kind)
  rng = np.random.default_rng(0)
  start = jpeg_frame.parse(data).height_at
  whole = lambda height, width: (0, 0, height, width)
  found = {True: 0, False: 0}
  for _ in range(150):
    broken = bytearray(data)
    broken[rng.integers(start, len(data))] = rng.integers(256)
    out = np.zeros((2, 16, 16, 3), np.uint8)
    good = []
    for slot, name in zip(out, ("turbo", "simplejpeg"), strict=True):
      try:
        decode.build_decoder(name).crop_resize(bytes(broken), slot, whole)
        good.append(True)
      except decode.DecodeError:
        slot[:] = 0
        good.append(False)
    assert good[0] == good[1]
    assert encoded_images.far_apart(*out)[0] <= 2
    found[good[0]] += 1
  assert min(found.values()) > 3


@built
def test_damaged_files_neither_crash_nor_keep_memory():
  """In a separate process, which may crash."""
  result = subprocess.run(
    [sys.executable, "-m", "tests.data.turbo_fuzz", "0", "6000"],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  found = json.loads(result.stdout)
  assert min(found["good"], found["bad"], found["problems"]) > 1000
  # 3000 problems: leaking a decoder, about 50 kB, would take 150 MB.
  assert found["grown_bytes"] < 2**24


@built
def test_many_threads_and_errors_among_them():
  rng = np.random.default_rng(0)
  files = [f for good in turbo_fuzz.files() for f in (good, good[:-40])]
  boxes = [tuple(rng.uniform(0.1, 0.5, 4)) for _ in files]
  decoder = decode.build_decoder("turbo")

  def work(order, out, failed):
    for i in order:
      top, left, rows, columns = boxes[i]
      try:
        decoder.crop_resize(
          files[i],
          out[i],
          lambda h, w, b=boxes[i]: (b[0] * h, b[1] * w, b[2] * h, b[3] * w),
        )
      except decode.DecodeError:
        failed[i] += 1
        out[i] = 0

  shape = 8, len(files)
  out = np.zeros((*shape, 24, 24, 3), np.uint8)
  failed = np.zeros(shape, int)
  orders = [np.tile(rng.permutation(len(files)), 10) for _ in range(shape[0])]
  threads = [
    threading.Thread(target=work, args=a)
    for a in zip(orders, out, failed, strict=True)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert (failed == [0, 10] * (len(files) // 2)).all()
  assert (out == out[:1]).all() and out[:, ::2].any()


@built
@pytest.mark.parametrize(
  "out",
  [
    np.zeros((8, 8), np.uint8),
    np.zeros((8, 8, 4), np.uint8),
    np.zeros((8, 8, 3), np.int8),
    np.zeros((0, 8, 3), np.uint8),
    np.zeros((8, 16, 3), np.uint8)[:, ::2],
    np.frombuffer(bytes(192), np.uint8).reshape(8, 8, 3),
  ],
  ids=lambda out: f"{out.shape} {out.dtype}",
)
def test_memory_of_another_kind_is_refused(out):
  data = _encode(encoded_images.photo(9, 9), "444")
  with pytest.raises(ValueError, match="uint8"):
    turbo.crop_resize(
      data, jpeg_frame.parse(data), 1, (0, 0, 9, 9), out, "bilinear"
    )


@built
def test_a_header_that_says_two_things_is_left_to_pillow():
  data = _encode(encoded_images.photo(9, 9), "444")
  frame = jpeg_frame.parse(data)._replace(height=10)
  out = np.zeros((8, 8, 3), np.uint8)
  problem = turbo.crop_resize(data, frame, 1, (0, 0, 9, 9), out, "bilinear")
  assert "header" in problem


@built
def test_a_build_of_another_source_is_not_used(tmp_path):
  """The pixels do not show that a clone was updated but not built."""
  library = pathlib.Path(turbo._library()._name)
  shutil.copy(library, tmp_path)
  shutil.copy(SOURCE, tmp_path)
  assert isinstance(turbo._load(tmp_path), ctypes.CDLL)
  (tmp_path / "turbo.c").write_text(SOURCE.read_text() + "\n")
  why = turbo._load(tmp_path)
  assert str(tmp_path / library.name) in why and "another turbo.c" in why


@built
def test_a_library_that_cannot_be_loaded(tmp_path):
  name = pathlib.Path(turbo._library()._name).name
  (tmp_path / name).write_bytes(b"no library")
  assert str(tmp_path / name) in turbo._load(tmp_path)


def test_where_it_is_missing(tmp_path, monkeypatch):
  why = turbo._load(tmp_path)
  assert f"{tmp_path}/turbo.c" in why
  monkeypatch.setattr(turbo, "_library", lambda: why)
  about = raising.about("decoder", given="'turbo'")
  with pytest.raises(errors.InputError, check=about) as caught:
    decode.build_decoder("turbo")
  assert why in caught.value.fix and "apt-get" in caught.value.fix
  said = []
  monkeypatch.setattr(logging, "log_first_n", lambda *args: said.append(args))
  decoder = decode.build_decoder(exact=True)
  assert type(decoder) is decode.SimpleJpegDecoder
  assert decoder.version.endswith(", exact")
  (args,) = said
  assert "pip install" in args[1] % args[3:] and args[2] == 1
