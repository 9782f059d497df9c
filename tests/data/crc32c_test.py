"""CRC-32C against published values and its definition bit by bit."""

import hypothesis
from hypothesis import strategies as st
import numpy as np

from imgbench.data import crc32c
from tests.data import tiny_tfds


def test_published_values():
  # The check value of the CRC catalogue; RFC 3720, appendix B.4.
  strings = [b"123456789", bytes(32), b"\xff" * 32, bytes(range(32))]
  expected = [0xE3069283, 0x8A9136AA, 0x62A8AB43, 0x46DD794E]
  assert crc32c.crc32c(strings).tolist() == expected


def test_no_string():
  assert crc32c.crc32c([]).shape == (0,)
  assert crc32c.masked_crc32c([]).dtype == np.uint32


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
  st.lists(st.integers(0, 900), min_size=1, max_size=6), st.integers(0, 2**31)
)
def test_any_lengths_together_equal_the_slow_twin(lengths, seed):
  rng = np.random.default_rng(seed)
  strings = [rng.bytes(length) for length in lengths]
  expected = [tiny_tfds.crc32c_by_bit(string) for string in strings]
  assert crc32c.crc32c(strings).tolist() == expected


def test_lengths_around_lanes_and_words():
  data = np.random.default_rng(0).bytes(1100)
  lengths = [0, 1, 2, 3, 4, 5, 255, 256, 257, 511, 512, 513, 1024, 1025]
  strings = [data[:length] for length in lengths]
  expected = [tiny_tfds.crc32c_by_bit(string) for string in strings]
  assert crc32c.crc32c(strings).tolist() == expected
  # Alone each has another padding than together with longer ones.
  assert [int(crc32c.crc32c([s])[0]) for s in strings] == expected


def test_every_flipped_bit_is_seen():
  data = bytearray(np.random.default_rng(1).bytes(60))
  right = int(crc32c.crc32c([bytes(data)])[0])
  flipped = []
  for bit in range(8 * len(data)):
    data[bit // 8] ^= 1 << bit % 8
    flipped.append(bytes(data))
    data[bit // 8] ^= 1 << bit % 8
  assert right not in crc32c.crc32c(flipped)


def test_masked_is_what_a_tfrecord_stores():
  strings = [b"", b"abc", b"a longer one", bytes(300)]
  stored = b"".join(tiny_tfds.masked(string) for string in strings)
  assert crc32c.masked_crc32c(strings).tobytes() == stored
