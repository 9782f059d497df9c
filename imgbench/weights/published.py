"""Published weights: preprocessing and top-1, see published.toml."""

import json
import pathlib
import tomllib
from typing import NamedTuple

from imgbench import errors
from imgbench import paths
from imgbench import registry
from imgbench.weights import maps


class Checkpoint(NamedTuple):
  """Weights; `top1` is in percent, None: not known."""

  model: str
  size: int
  crop_fraction: float
  method: str
  top1: float | None
  mean: tuple[float, ...]
  std: tuple[float, ...]
  source: str = ""


_FILE = pathlib.Path(__file__).with_name("published.toml")
PUBLISHED = {
  name: Checkpoint(*values, *map(tuple, it["scale"]), it["source"])
  for it in tomllib.loads(_FILE.read_text(encoding="utf-8")).values()
  for name, *values in it["rows"]
}


def find(name: str, weights: paths.Folder) -> Checkpoint:
  """Returns weights of PUBLISHED, else those of config.json beside the file.

  Raises:
    InputError: neither describes them.
  """
  if name in PUBLISHED:
    return PUBLISHED[name]
  path = (weights if weights.is_dir() else weights.parent) / "config.json"
  peers = {k: v for m in maps.MAPS.values() for k, v in m.peers.items()}
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
    cut = found["pretrained_cfg"]
    model = peers[f"timm/{found['architecture']}"]
    crop = cut["input_size"][-1], cut["crop_pct"], cut["interpolation"]
    scale = tuple(cut["mean"]), tuple(cut["std"])
    return Checkpoint(model, *crop, None, *scale)
  except (OSError, ValueError, TypeError, LookupError) as error:
    expected = f"a known name, or a model of timm in {path}"
    near = registry.near_names(name, PUBLISHED)
    raise errors.InputError("--model", expected, repr(name), near) from error
