"""Tests of JPEG headers and of JPEGs cut to fewer rows."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest
import simplejpeg

from imgbench.data import jpeg_frame
from tests.data import encoded_images

PHOTO = encoded_images.photo(93, 71)
JPEG = encoded_images.encode(PHOTO)


@pytest.mark.parametrize("subsampling, rows", [(0, 1), (1, 1), (2, 2)])
def test_header(subsampling, rows):
  frame = jpeg_frame.parse(
    encoded_images.encode(PHOTO, subsampling=subsampling)
  )
  assert frame[:4] == (93, 71, 3, 8)
  assert frame.rows_per_block == rows
  assert frame.baseline and not frame.restarts


def test_header_of_other_kinds():
  parse = lambda *a, **k: jpeg_frame.parse(encoded_images.encode(*a, **k))
  assert parse(PHOTO[..., 0]).components == 1
  assert parse(Image.fromarray(PHOTO).convert("CMYK")).components == 4
  assert not parse(PHOTO, progressive=True).baseline
  assert parse(PHOTO, restart_marker_rows=1).restarts


def test_a_thumbnail_in_the_metadata_is_not_the_picture():
  small = encoded_images.encode(PHOTO[:8, :8])
  data = encoded_images.encode(PHOTO, exif=b"Exif\0\0" + small)
  assert data.count(b"\xff\xd8\xff") == 2
  assert jpeg_frame.parse(data)[:2] == (93, 71)


@pytest.mark.parametrize(
  "data",
  [b"", b"\xff\xd8", b"\xff\xd8\xff", JPEG[:100], JPEG[1:], b"\x89PNG" * 9],
)
def test_no_header(data):
  assert jpeg_frame.parse(data) is None


@hypothesis.given(st.binary(max_size=60), st.integers(0, 700))
def test_no_bytes_make_it_raise(tail, keep):
  jpeg_frame.parse(JPEG[:keep] + tail)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("rows", [1, 17, 40, 41, 77])
def test_first_rows_are_those_of_the_whole(subsampling, rows):
  data = encoded_images.encode(PHOTO, subsampling=subsampling)
  frame = jpeg_frame.parse(data)
  asked = rows + frame.rows_per_block
  cut, height = jpeg_frame.cut_rows(data, frame, asked)
  assert height == (asked if asked <= 93 - 16 else 93)
  got = simplejpeg.decode_jpeg(cut, strict=False)
  assert got.shape == (height, 71, 3)
  np.testing.assert_array_equal(got[:rows], simplejpeg.decode_jpeg(data)[:rows])


def test_what_cannot_be_cut_stays_whole():
  for options in ({"progressive": True}, {"restart_marker_rows": 1}):
    data = encoded_images.encode(PHOTO, **options)
    frame = jpeg_frame.parse(data)
    assert jpeg_frame.cut_rows(data, frame, 20) == (data, 93)
