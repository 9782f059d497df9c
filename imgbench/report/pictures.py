"""Figures as PNG files beside the page, and embedded in it."""

import base64
from collections.abc import Callable
from collections.abc import Sequence
import functools
import io
import struct

import numpy as np

from imgbench import paths
from imgbench import writers
from imgbench.report import figures
from imgbench.report import html_tables
from imgbench.report import inputs
from imgbench.report import selection
from imgbench.tables import formats
from imgbench.tables import themes

ImageLookup = Callable[[str, np.ndarray], np.ndarray]
MAX_MISTAKES = 18
_PIXELS_PER_INCH = 99  # 10 inches of a figure fill the page's column
# Says in a PNG of mistakes which ones it shows.
_DIGEST = "imgbench-mistakes"
_CAPTION = (
  "Wrong top-1 predictions of highest confidence. A mistake is counted against"
  " the original label: where an image shows several things, the prediction may"
  " name another of them."
)


class Gallery:
  """Draws figures, writes them beside the page and returns their HTML."""

  def __init__(self, workdir: paths.Folder, image_lookup: ImageLookup | None):
    self._workdir = workdir
    self._lookup = image_lookup

  def figure(
    self,
    name: str,
    draw: themes.Draw,
    alt: str,
    caption: str,
    **options,
  ) -> str:
    """Writes `<name>.png` (light) and returns it as HTML, dark one included.

    Args:
      name: of the file, without its ending.
      draw: makes the figure for a theme.
      alt: what the figure shows, for who cannot see it.
      caption: below the figure.
      **options: of `themes.render`.
    """
    light = themes.render(draw, themes.LIGHT, **options)
    writers.write_atomically(self._workdir / f"{name}.png", light)
    dark = themes.render(draw, themes.DARK, **options)
    return _figure(light, dark, alt, caption)

  def mistakes(self, dataset: inputs.DatasetFiles) -> str:
    """The most confident mistakes of a data set; empty if it has none."""
    chosen = selection.mistakes(dataset.predictions, MAX_MISTAKES)
    if not chosen:
      return ""
    table = html_tables.mistakes(dataset, chosen)
    picture = self._mistakes_picture(dataset, chosen)
    return (
      f"<h3>Most confident mistakes</h3>\n{picture}\n"
      f"<details><summary>The same as a table</summary>\n{table}\n</details>"
    )

  def _mistakes_picture(
    self,
    dataset: inputs.DatasetFiles,
    chosen: Sequence[selection.Mistake],
  ) -> str:
    name = f"mistakes_{writers.file_key(dataset.key)}"
    alt = f"Pictures of the most confident mistakes on {dataset.key}"
    digest = selection.digest(chosen)
    if self._lookup is None:
      kept = _kept(self._workdir / f"{name}.png", digest)
      if kept is not None:
        return _figure(kept, None, alt, _CAPTION)
      return f'<p class="muted">{_CAPTION} The pictures were not at hand.</p>'
    indices = np.array([mistake.index for mistake in chosen])
    images = self._lookup(dataset.key, indices)
    if images.dtype != np.uint8 or images.shape[:1] != indices.shape:
      raise ValueError(
        f"image_lookup: expected uint8 [{len(indices)}, H, W, C], got"
        f" {images.dtype} {list(images.shape)}"
      )
    draw = functools.partial(
      figures.mistakes, dataset=dataset, chosen=chosen, pictures=images
    )
    return self.figure(
      name,
      draw,
      alt,
      _CAPTION,
      metadata={_DIGEST: digest},
      photographs=True,
    )


def _kept(path: paths.Folder, digest: str) -> bytes | None:
  """A PNG of an earlier report, if it shows just these mistakes."""
  if not path.is_file():
    return None
  from PIL import Image

  png = path.read_bytes()
  try:
    with Image.open(io.BytesIO(png)) as picture:
      same = picture.info.get(_DIGEST) == digest
  except OSError:  # Not a PNG: there is no picture to keep.
    return None
  return png if same else None


def _figure(light: bytes, dark: bytes | None, alt: str, caption: str) -> str:
  source = ""
  if dark is not None:
    source = (
      '<source media="screen and (prefers-color-scheme: dark)"'
      f' srcset="{_data_url(dark)}">'
    )
  width, height = (
    round(pixels * _PIXELS_PER_INCH / themes.DPI)
    for pixels in struct.unpack(">II", light[16:24])  # PNG's first chunk
  )
  return (
    f"<figure><picture>{source}"
    f'<img width="{width}" height="{height}" alt="{formats.escape(alt)}"'
    f' src="{_data_url(light)}"></picture>'
    f"<figcaption>{formats.escape(caption)}</figcaption></figure>"
  )


def _data_url(png: bytes) -> str:
  return f"data:image/png;base64,{base64.b64encode(png).decode()}"
