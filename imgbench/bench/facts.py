"""Facts of a point besides its times: FLOPs, peaks, bytes."""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from imgbench import errors
from imgbench import models
from imgbench import peaks
from imgbench.bench import micro
from imgbench.bench import rows
from imgbench.bench import run_settings
from imgbench.bench import summaries
from imgbench.models import flops


def build_step_facts(
  key: rows.Key,
  result: Mapping[str, Any],
  settings: run_settings.Settings,
  measured: Iterable[rows.Row],
) -> summaries.Facts:
  """Returns the facts of a point of an image task.

  Args:
    key: which point.
    result: of a process that measured it: "params", "bytes_accessed" and, for
      our models, "attention".
    settings: with platform and device kind.
    measured: rows of the folder; its microbenchmarks give the measured peaks.
  """
  measured = list(measured)
  precision = key.matmul_precision
  named = {
    peaks.DATASHEET: peaks.datasheet(
      settings.device_kind, settings.platform, key.dtype, precision
    ),
    peaks.MEASURED: find_rate(
      measured, micro.MATMUL, dtype=key.dtype, matmul_precision=precision
    ),
  }
  return summaries.Facts(
    params=result["params"],
    flops_per_image=count_flops(key, settings.recipe),
    bytes_accessed=result["bytes_accessed"],
    attention=result.get("attention"),
    peak_flops={name: peak for name, peak in named.items() if peak},
    bandwidth=find_rate(measured, micro.MEMORY_COPY),
  )


def find_rate(found: Iterable[rows.Row], name: str, **fields) -> float | None:
  """Returns the rate of a microbenchmark; None without such a row.

  Args:
    found: rows to search.
    name: of the microbenchmark.
    **fields: further fields of its key.
  """
  for row in found:
    key = row.key
    same = all(getattr(key, field) == value for field, value in fields.items())
    if key.task == rows.MICRO and key.name == name and same:
      return row.rate
  return None


def count_flops(key: rows.Key, recipe: Mapping[str, Any]) -> float | None:
  """Returns the analytic FLOPs per image of a point.

  None for a model that is not registered or that `flops` cannot count.
  """
  if key.model not in models.BUILDERS:
    return None
  shape = (key.image_size, key.image_size, 3)
  model = models.build_model(
    key.model,
    num_classes=recipe["num_classes"],
    image_shape=shape,
    dtype=jnp.float32,
    **recipe["model_settings"].get(key.model, {}),
  )
  try:
    cost = flops.count_cost(model, shape)
  except errors.InputError:
    return None
  train = key.task == "train"
  return float(cost.training_flops if train else cost.forward_flops)
