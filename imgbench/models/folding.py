"""Folds BatchNorm into the convolution before it, for inference.

With fixed statistics a norm is a scale and a shift per channel. The kernel of
the convolution absorbs the scale, and the norm only adds the shift: one pass
over the activations less, and GPUs fuse the shift into the convolution.
"""

from collections.abc import Mapping
from typing import Any

import jax

from imgbench.models import layers

Variables = dict[str, Any]


def fold(
  variables: Variables, convolutions: Mapping[str, str | None] | None = None
) -> Variables:
  """Returns variables that give the same logits in inference; traceable.

  A folded norm keeps the parameter `layers.SHIFT` and no statistics. Between
  convolution and norm only operations that commute with both may run.

  Args:
    variables: float32, of a model with BatchNorm.
    convolutions: norm -> the convolution of the same module whose output it
      normalizes, or None; by default their names match, e.g. conv1 and norm1.
  """
  params, stats = _fold(
    variables["params"], variables["batch_stats"], convolutions or {}
  )
  return {**variables, "params": params, "batch_stats": stats}


def _fold(params, stats, convolutions):
  params, kept = dict(params), {}
  for name, inner in stats.items():
    if "mean" not in inner:
      params[name], kept[name] = _fold(params[name], inner, convolutions)
      continue
    conv = convolutions.get(name, name.replace("norm", "conv"))
    if conv is None:
      kept[name] = inner
      continue
    norm = params[name]
    factor = jax.lax.rsqrt(inner["var"] + layers.BatchNorm.epsilon)
    factor *= norm.get("scale", 1.0)
    kernel = params[conv]["kernel"]
    params[conv] = {
      **params[conv],
      "kernel": kernel * factor.reshape(*(1,) * (kernel.ndim - 1), -1),
    }
    params[name] = {layers.SHIFT: norm["bias"] - inner["mean"] * factor}
  return params, kept
