"""Tests of contact sheets."""

import numpy as np
from PIL import Image
import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.papers import contact_sheet
from imgbench.tables import themes
from tests import raising


def _image(path, size=(40, 30), color=(200, 30, 30)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new("RGB", size, color).save(path)
  return path


def test_find(tmp_path):
  wnid = classes.imagenet_classes().wnids[7]
  flat = _image(tmp_path / "flat/ILSVRC2012_val_00000001.JPEG")
  by_wnid = _image(tmp_path / f"val/{wnid}/ILSVRC2012_val_00000002.JPEG")
  by_index = _image(tmp_path / "v2/7/abc.jpeg")
  png = _image(tmp_path / "flat/def.png")
  folders = [tmp_path / name for name in ("flat", "val", "v2")]
  find = lambda image_id: contact_sheet.find(folders, image_id, 7)
  assert find("ILSVRC2012_val_00000001.JPEG") == flat
  assert find("ILSVRC2012_val_00000002.JPEG") == by_wnid
  assert find("abc") == by_index
  assert find("def") == png
  assert find("other") is None
  assert contact_sheet.find(folders, "abc", 8) is None


def test_draw(tmp_path):
  pictures = [
    contact_sheet.Picture(
      contact_sheet.read(
        _image(tmp_path / f"{i}.png", (300 + i, 200), (30 * i, 90, 120))
      ),
      ("label: Norwich terrier", "40 of 40 models: cairn"),
    )
    for i in range(8)
  ]
  draw = contact_sheet.draw("Wrong for all", pictures)
  png = themes.render(draw, themes.LIGHT, photographs=True)
  assert png == themes.render(draw, themes.LIGHT, photographs=True)
  figure = draw(themes.LIGHT)
  assert [len(axes.images) for axes in figure.axes] == [1] * 8
  shown = figure.axes[1].images[0].get_array()
  assert max(shown.shape) <= 256
  np.testing.assert_array_equal(shown[0, 0], [30, 90, 120])
  for axes in figure.axes:
    (text,) = axes.texts
    assert len(text.get_text().splitlines()) == 2


@pytest.mark.parametrize("content", [b"no image", b"", "torn"])
def test_what_is_no_image_is_refused(tmp_path, content):
  path = _image(tmp_path / "x.png", (300, 300))
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2] if content == "torn" else content)
  check = raising.about(str(path), expected="an image")
  with pytest.raises(errors.InputError, check=check):
    contact_sheet.read(path)


def test_no_image_is_an_empty_frame():
  draw = contact_sheet.draw("", [contact_sheet.Picture(None, ("label: a",))])
  (axes,) = draw(themes.LIGHT).axes
  assert not axes.images
  assert "read" in axes.texts[0].get_text()
