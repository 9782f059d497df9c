"""Figures, written as PNG files and embedded in a page."""

import base64
from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from imgbench import paths
from imgbench import writers
from imgbench.tables import page
from imgbench.tables import themes

_PIXELS_PER_INCH = 99  # themes.WIDTH is then as wide as the column


@dataclasses.dataclass(frozen=True)
class Figure(page.Drawn):
  """A picture with its caption.

  Attributes:
    light: PNG for light pages and for print.
    dark: for dark pages; None: the light one.
    alt: alternative text.
    caption: below the figure.
  """

  light: bytes
  dark: bytes | None
  alt: str
  caption: str

  @property
  def size(self) -> tuple[int, int]:
    """Width and height on the page, in CSS pixels."""
    width, height = struct.unpack(">II", self.light[16:24])  # PNG's first chunk
    scale = _PIXELS_PER_INCH / themes.DPI
    return round(width * scale), round(height * scale)

  @staticmethod
  def url(png: bytes) -> str:
    return _url("png", png)


@dataclasses.dataclass(frozen=True)
class Gallery(page.Drawn):
  """Pictures with lines of text below each, as many in a row as fit.

  Attributes:
    images: uint8 [M, H, W, 3].
    lines: of each picture; the first one is emphasized.
    alt: alternative text of all pictures.
    caption: below the gallery.
  """

  images: np.ndarray
  lines: Sequence[Sequence[str]]
  alt: str
  caption: str

  @property
  def small(self) -> bool:
    """Returns whether pixels are shown: blur would hide what a model saw."""
    return max(self.images.shape[1:3]) < 100

  @property
  def items(self) -> list[tuple[str, Sequence[str]]]:
    """URL and lines of each picture."""
    kind, options = ("png", {}) if self.small else ("jpeg", {"quality": 90})
    urls = []
    for image in self.images:
      buffer = io.BytesIO()
      Image.fromarray(image).save(buffer, kind, **options)
      urls.append(_url(kind, buffer.getvalue()))
    return list(zip(urls, self.lines, strict=True))


def _url(kind: str, data: bytes) -> str:
  return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def draw(
  path: paths.Folder,
  figure: Callable[..., Any],
  of: Any,
  *,
  alt: str,
  caption: str,
  **given: Any,
) -> list[Figure]:
  """Writes a figure for light pages and returns it for both.

  Args:
    path: of the PNG.
    figure: (theme, of, **given) -> figure.
    of: the data; nothing is drawn if it is empty.
    alt: as of `Figure`.
    caption: as of `Figure`.
    **given: further arguments of `figure`.
  """
  if not of:
    return []
  light, dark = (
    themes.render(lambda t: figure(t, of, **given), theme)
    for theme in (themes.LIGHT, themes.DARK)
  )
  writers.write_atomically(path, light)
  return [Figure(light, dark, alt, caption)]
