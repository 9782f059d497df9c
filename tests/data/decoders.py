"""The decoders, for tests of all of them."""

import pytest

from imgbench.data import turbo

TURBO = pytest.param(
  "turbo",
  marks=pytest.mark.skipif(bool(turbo.missing()), reason=turbo.missing()),
)
NAMES = (TURBO, "simplejpeg", "opencv", "pillow")
# Those that detect damage inside a file that has its end.
STRICT = (TURBO, "simplejpeg")
