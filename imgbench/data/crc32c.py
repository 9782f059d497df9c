"""CRC-32C of many byte strings at once, as NumPy operations.

TFRecord files guard lengths and data with this checksum, and no library that
is always installed computes it. A CRC is linear over XOR: the zero bytes that
right-align strings of different lengths do not change a register of zero, and
pieces of a string may be checksummed side by side and joined afterwards.
"""

from collections.abc import Sequence
import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
_LANE_BYTES = 256  # more: fewer joins; less: less padding of short strings
_MASK_DELTA = 0xA282EAD8  # TFRecord's mask


@functools.cache
def _byte_table() -> np.ndarray:
  """Returns uint32 [256]: a register of one byte, one byte of zeros later."""
  register = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    odd = register & np.uint32(1)
    register = (register >> np.uint32(1)) ^ (odd * np.uint32(_POLYNOMIAL))
  return register


@functools.cache
def _advance_tables(num_bytes: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns what the low and the high half of a register become.

  Each is uint32 [65536]: the register after `num_bytes` of zeros, if it had
  only its low (or only its high) 16 bits.
  """
  basis = np.uint32(1) << np.arange(32, dtype=np.uint32)
  table = _byte_table()
  for _ in range(num_bytes):
    basis = table[basis & np.uint32(0xFF)] ^ (basis >> np.uint32(8))
  halves = []
  for bits in (basis[:16], basis[16:]):
    half = np.zeros(1, np.uint32)
    for bit in bits:
      half = np.concatenate([half, half ^ bit])
    halves.append(half)
  return halves[0], halves[1]


def _advance(register: np.ndarray, num_bytes: int) -> np.ndarray:
  low, high = _advance_tables(num_bytes)
  return low[register & np.uint32(0xFFFF)] ^ high[register >> np.uint32(16)]


def crc32c(strings: Sequence[bytes]) -> np.ndarray:
  """Returns the CRC-32C of each string as uint32 [N].

  Working memory is about twice N times the longest string. A string shorter
  than 4 bytes is computed alone.
  """
  if not len(strings):
    return np.zeros(0, np.uint32)
  lengths = np.array([len(string) for string in strings])
  lanes = max(1, -(-int(lengths.max()) // _LANE_BYTES))
  width = lanes * _LANE_BYTES
  padded = b"".join([bytes(string).rjust(width, b"\0") for string in strings])
  rows = np.frombuffer(bytearray(padded), np.uint8).reshape(-1, width)
  # A register that starts with ones is one that starts with zeros and reads
  # the first four bytes inverted.
  head = np.minimum(width - lengths, width - 4)[:, None] + np.arange(4)
  rows[np.arange(len(strings))[:, None], head] ^= np.uint8(0xFF)
  words = np.ascontiguousarray(rows.view("<u4").reshape(-1, _LANE_BYTES // 4).T)
  register = np.zeros(words.shape[1], np.uint32)
  for word in words:
    register = _advance(register ^ word, 4)
  by_lane = register.reshape(-1, lanes)
  register = by_lane[:, 0]
  for lane in range(1, lanes):
    register = _advance(register, _LANE_BYTES) ^ by_lane[:, lane]
  result = ~register
  for i in np.flatnonzero(lengths < 4):
    result[i] = _short_crc32c(strings[i])
  return result


def _short_crc32c(string: bytes) -> int:
  table, register = _byte_table(), 0xFFFFFFFF
  for byte in string:
    register = int(table[(register ^ byte) & 0xFF]) ^ (register >> 8)
  return register ^ 0xFFFFFFFF


def masked_crc32c(strings: Sequence[bytes]) -> np.ndarray:
  """Returns the checksums as a TFRecord file stores them, uint32 [N].

  Source: TFRecord format, rotated right by 15 bits plus a constant.
  """
  crc = crc32c(strings)
  rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
  return rotated + np.uint32(_MASK_DELTA)
