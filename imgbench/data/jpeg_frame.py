"""Parses the frame header of a JPEG and cuts a JPEG to its first rows."""

import threading
from typing import NamedTuple

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment
_SOS, _DRI, _EOI = 0xDA, 0xDD, 0xD9
_BASELINE = frozenset({0xC0, 0xC1})
_PER_THREAD = threading.local()


class Frame(NamedTuple):
  """The frame header of a JPEG.

  Attributes:
    height, width: pixels, as stored (EXIF orientation is ignored).
    components: 1 grey, 3 colour, 4 CMYK or YCCK.
    precision: bits per sample.
    rows_per_block: luma rows per row of chroma (1, 2 or 4).
    baseline: Huffman coded in one pass, from the first row to the last.
    restarts: restart markers divide the data.
    height_at: offset in the file of the two bytes of the height.
  """

  height: int
  width: int
  components: int
  precision: int
  rows_per_block: int
  baseline: bool
  restarts: bool
  height_at: int


def parse(data: bytes) -> Frame | None:
  """Returns the frame header, or None if there is none that it can parse."""
  if not data.startswith(b"\xff\xd8"):
    return None
  at, end = 2, len(data) - 8
  frame, restarts = None, False
  while at < end and data[at] == 0xFF:
    marker = data[at + 1]
    if marker == 0xFF:  # fill byte
      at += 1
      continue
    if marker in _ALONE:
      at += 2
      continue
    if marker in (_SOS, _EOI):
      break
    restarts = restarts or marker == _DRI
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    if marker in _SOF:
      frame = _parse_segment(data[at : at + 2 + length], at)
    at += 2 + length
  else:
    return None
  if frame is None or not (frame.height and frame.width):
    return None
  return frame._replace(restarts=True) if restarts else frame


def _parse_segment(segment: bytes, at: int) -> Frame | None:
  if len(segment) < 10 or len(segment) < 10 + 3 * segment[9]:
    return None
  components = segment[9]
  vertical = [segment[11 + 3 * i] & 15 for i in range(components)]
  return Frame(
    height=int.from_bytes(segment[5:7], "big"),
    width=int.from_bytes(segment[7:9], "big"),
    components=components,
    precision=segment[4],
    rows_per_block=max(vertical, default=1),
    baseline=segment[1] in _BASELINE,
    restarts=False,
    height_at=at + 5,
  )


def cut_rows(data: bytes, frame: Frame, rows: int):
  """Returns a JPEG of the first `rows` rows, or `data` if that saves nothing.

  Only the height in the header is changed: a decoder stops early and reports
  the rest as extraneous bytes. The last `rows_per_block` rows may differ from
  the whole image: chroma is interpolated, and the row below is missing.

  Args:
    data: the file.
    frame: its header.
    rows: how many are needed at least.

  Returns:
    A buffer, valid until the thread's next call, and the height it states.
  """
  # A progressive file has all rows in each scan, so decoding cannot stop early.
  # With restart markers a decoder cannot tell the rest from damage.
  if not frame.baseline or frame.restarts or rows > frame.height - 16:
    return data, frame.height
  # Reuse the memory: fresh pages cost ten times as much as the copy.
  memory = getattr(_PER_THREAD, "copy", b"")
  if len(memory) < len(data):
    memory = _PER_THREAD.copy = bytearray(2 * len(data))
  copy = memoryview(memory)[: len(data)]
  copy[:] = data
  copy[frame.height_at : frame.height_at + 2] = rows.to_bytes(2, "big")
  return copy, rows
