"""ConfigDicts as plain values: durations, hashes, differences."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import hashlib
import json
import re
from typing import Any

import ml_collections

from imgbench import errors
from imgbench import registry

NEVER = 0  # period of what is never due
MOST = 2**31 - 1  # steps of a run and images of a batch are int32

# Sections whose values may differ when a run is resumed.
CHANGEABLE = (
  "steps",
  "logging",
  "evaluation",
  "parallel",
  "checkpoint",
  "deterministic",
  "plugins",  # What they register is named by other keys.
)
# The data are identified by their fingerprint, not by their folder.
CHANGEABLE_KEYS = (
  "data.data_dir",
  # Earlier steps had no such example, or fewer.
  "input.on_bad_example",
  "input.most_bad",
)
# How a batch is normalized changes what is trained, on any devices.
FIXED_KEYS = ("parallel.batch_norm", "parallel.microbatches")

_DURATION = re.compile(
  r"\s*([0-9]+(?:\.[0-9]+)?(?:e[0-9]{1,2})?)\s*(steps?|epochs?|examples?|percent|%)\s*"
)


@dataclasses.dataclass(frozen=True)
class Durations:
  """Turns durations such as "10 epochs" into steps.

  Attributes:
    num_examples: training examples in an epoch.
    global_batch_size: examples in a step.
    total_steps: what percent refers to; None where percent makes no sense.
  """

  num_examples: int
  global_batch_size: int
  total_steps: int | None = None

  def steps(self, text: str, key: str) -> int:
    """Returns a number of steps, rounded, at least 1; 0 for "never".

    Args:
      text: "<number> steps", "epochs", "examples" or "percent" (of the whole
        run), or "never".
      key: the config key, named in errors.

    Raises:
      InputError: any other text, or more steps than MOST.
    """
    if text == "never":
      return NEVER
    match = _DURATION.fullmatch(str(text))
    if not match:
      raise errors.InputError(
        key, 'a duration: "500 steps", "2 epochs" or "never"', repr(text)
      )
    if match[2] in ("percent", "%") and self.total_steps is None:
      raise errors.InputError(
        key, "steps, epochs or examples, as this sets the total", repr(text)
      )
    steps_per = {
      "step": lambda: 1.0,
      "epoch": lambda: self.num_examples / self.global_batch_size,
      "example": lambda: 1 / self.global_batch_size,
      "percent": lambda: self.total_steps / 100,
      "%": lambda: self.total_steps / 100,
    }
    number = float(match[1])
    steps = number * steps_per[match[2].rstrip("s")]()
    if steps > MOST:
      raise errors.InputError(key, f"at most {MOST} steps", repr(text))
    return max(1, round(steps)) if number > 0 else NEVER


def to_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the config as plain JSON types (tuples become lists)."""
  return json.loads(config.to_json_best_effort())


def config_hash(config: ml_collections.ConfigDict) -> str:
  """Returns 12 hex digits; equal for equal values, whatever the file was."""
  return hash_dict(to_dict(config))


def hash_dict(config: Mapping[str, Any]) -> str:
  """Returns the same for a config as of `to_dict`."""
  # Configs of older versions have no plug-ins.
  config = {k: v for k, v in config.items() if k != "plugins" or any(v)}
  init, checkpoint = config.get("init"), config.get("checkpoint")
  if isinstance(init, Mapping) and isinstance(checkpoint, Mapping):
    source, trains = init.get("source", ""), init.get("train", True)
    others = [v for k, v in init.items() if k not in ("source", "train")]
    # They named a run that is evaluated in checkpoint.init_from.
    if not any(others) and bool(trains) != bool(source):
      del config["init"]
      config["checkpoint"] = {**checkpoint, "init_from": source}
  text = json.dumps(config, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns {"a.b": 1} for {"a": {"b": 1}}."""
  flat = {}
  for name, value in tree.items():
    path = f"{prefix}{name}"
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{path}.")
    else:
      flat[path] = value
  return flat


# Config -> default by dotted key, of keys that the config need not have.
FindDefaults = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def frozen_differences(
  old: Mapping[str, Any],
  new: Mapping[str, Any],
  find_defaults: FindDefaults = lambda config: {},
) -> list[str]:
  """Returns "key: old -> new" for keys that a resumed run must not change.

  Args:
    old: as of `to_dict`.
    new: to be compared with it.
    find_defaults: an absent key counts as its default.
  """
  old, new = (
    {**find_defaults(config), **flatten(config)} for config in (old, new)
  )
  missing = "(absent)"
  lines = []
  for key in sorted(old.keys() | new.keys()):
    changeable = key.split(".")[0] in CHANGEABLE or key in CHANGEABLE_KEYS
    if changeable and key not in FIXED_KEYS:
      continue
    before, after = old.get(key, missing), new.get(key, missing)
    if before != after:
      lines.append(f"{key}: {before} -> {after}")
  return lines


def arguments(section: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a config section as keyword arguments; lists become tuples."""
  plain = ml_collections.ConfigDict(section).to_dict()
  return {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in plain.items()
  }


@contextlib.contextmanager
def prefix_errors(prefix: str) -> Iterator[None]:
  """Puts a prefix, e.g. "optim.", before the setting of the block's errors."""
  try:
    yield
  except errors.InputError as error:
    raise error.prefixed(prefix) from error


def check_sections(
  config: Mapping[str, Any], known: Mapping[str, Iterable[str] | None]
) -> None:
  """Raises InputError unless the config has just the known keys.

  Args:
    config: with sections.
    known: section -> its keys; None where they are checked elsewhere, or where
      it is no section but a value.
  """
  check_keys(config, known, "")
  for section, keys in known.items():
    if keys is not None:
      check_keys(config[section], keys, f"{section}.")


def check_keys(
  section: Mapping[str, Any], known: Iterable[str], prefix: str
) -> None:
  """Raises InputError unless a section has just the known keys."""
  for key in section:
    if key not in known:
      near = registry.near_keys(key, known)
      raise errors.InputError(
        f"{prefix}{key}", "a known config key", section[key], near
      )
  for key in known:
    if key not in section:
      raise errors.InputError(f"{prefix}{key}", "a value", "none")
