"""Contact sheets of images with captions."""

from collections.abc import Callable
from collections.abc import Sequence
import pathlib
import textwrap
from typing import NamedTuple

from matplotlib import figure as mpl_figure
from matplotlib import patches
import numpy as np
from PIL import Image

from imgbench import errors
from imgbench.labels import classes
from imgbench.tables import themes

_ENDINGS = ("", ".JPEG", ".jpeg", ".jpg", ".png")
_COLUMNS = 6
_SIDE, _GAP, _LINE, _TITLE = 1.9, 0.12, 0.125, 0.5  # inches
_PIXELS = 256


class Picture(NamedTuple):
  """An image and its caption.

  Attributes:
    image: uint8 [H, W, 3]; None for an empty frame.
    lines: of the caption.
  """

  image: np.ndarray | None
  lines: tuple[str, ...]


def find(
  folders: Sequence[pathlib.Path], image_id: str, label: int
) -> pathlib.Path | None:
  """Returns the file of an image; None if it is in none of the folders.

  It may be in the folder itself or, as ImageNet and ImageNetV2 are unpacked, in
  one named by its class (WordNet id or index). Its name is the id, or the id
  with the suffix .JPEG, .jpeg, .jpg or .png.
  """
  wnid = classes.imagenet_classes().wnids[label]
  for folder in folders:
    for place in (folder, folder / wnid, folder / str(label)):
      for ending in _ENDINGS:
        path = place / f"{image_id}{ending}"
        if path.is_file():
          return path
  return None


def draw(
  title: str, pictures: Sequence[Picture]
) -> Callable[[themes.Theme], mpl_figure.Figure]:
  """Returns a function that draws pictures in rows of six with captions."""

  def render(theme: themes.Theme) -> mpl_figure.Figure:
    texts = [_wrap(picture.lines) for picture in pictures]
    # A cell has the picture's square, a gap beside it and text below it.
    wide = _SIDE + _GAP
    high = _SIDE + _LINE * (2 + max(text.count("\n") for text in texts)) + _GAP
    columns = min(_COLUMNS, max(len(pictures), 3))
    lines = -(-len(pictures) // columns)
    width, height = columns * wide + _GAP, lines * high + _TITLE
    figure = mpl_figure.Figure(figsize=(width, height))
    figure.text(
      _GAP / width,
      1 - 0.6 * _TITLE / height,
      themes.plain(title),
      va="center",
      fontsize=12,
      weight="bold",
    )
    for place, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
      line, column = divmod(place, columns)
      left = (_GAP + column * wide) / width
      top = 1 - (_TITLE + line * high) / height
      axes = figure.add_axes(
        (left, top - _SIDE / height, _SIDE / width, _SIDE / height)
      )
      axes.set_axis_off()
      _show(axes, picture.image, theme)
      axes.set_xlim(0, 1)
      axes.set_ylim(1, 0)
      axes.text(
        0,
        1.03,
        text,
        va="top",
        fontsize=7.5,
        color=theme.muted,
      )
    return figure

  return render


def _show(axes, image: np.ndarray | None, theme: themes.Theme) -> None:
  """Draws an image, or an empty frame, in the unit square."""
  if image is None:
    frame = patches.Rectangle((0, 0), 1, 1, fill=False, color=theme.muted)
    axes.add_patch(frame)
    centred = {"ha": "center", "va": "center", "color": theme.muted}
    axes.text(0.5, 0.5, "cannot be read", fontsize=9, **centred)
    return
  tall, broad = np.array(image.shape[:2]) / max(image.shape[:2])
  axes.imshow(image, extent=(0, broad, tall, 0), aspect="auto")


def _wrap(lines: Sequence[str]) -> str:
  """Wraps lines to the width of a picture, each into two at most."""
  return "\n".join(
    themes.plain(part)
    for line in lines
    for part in textwrap.wrap(line, 30, max_lines=2, placeholder=" ...")
  )


def shrink(picture: Image.Image) -> np.ndarray:
  """Returns uint8 [H, W, 3] of at most 256 pixels a side."""
  picture = picture.convert("RGB")
  picture.thumbnail((_PIXELS, _PIXELS))
  return np.asarray(picture)


def read(path: pathlib.Path) -> np.ndarray:
  """Returns uint8 [H, W, 3] of at most 256 pixels a side.

  Raises:
    InputError: no image, or a broken one.
  """
  try:
    with Image.open(path) as picture:
      return shrink(picture)
  # Damaged files raise many kinds of errors.
  except Exception as error:
    given = f"{type(error).__name__}: {errors.find_reason(error)}"
    raise errors.InputError(path, "an image", given) from error
