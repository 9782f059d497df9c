"""The decoders, for tests that go through all of them."""

import pytest

from imgbench.data import turbo

TURBO = pytest.param(
  "turbo",
  marks=pytest.mark.skipif(bool(turbo.missing()), reason=turbo.missing()),
)
NAMES = (TURBO, "simplejpeg", "opencv", "pillow")
# Those that notice damage inside of a file whose end is there.
STRICT = (TURBO, "simplejpeg")
