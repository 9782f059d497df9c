"""Models by name."""

from collections.abc import Callable
import inspect
from typing import Any

from imgbench import registry
from imgbench.models import autoencoder
from imgbench.models import base
from imgbench.models import cnn
from imgbench.models import convnext
from imgbench.models import efficientnet
from imgbench.models import layers
from imgbench.models import mixer
from imgbench.models import mlp
from imgbench.models import resnet
from imgbench.models import vit
from imgbench.models import whitened
from imgbench.models import wide_resnet

__all__ = ["BUILDERS", "build_model"]

BUILDERS: registry.Registry[Callable[..., base.Model]] = registry.Registry(
  "model"
)
BUILDERS.register("autoencoder", autoencoder.build_autoencoder)
BUILDERS.register("cnn", cnn.build_cnn)
BUILDERS.register("mlp", mlp.build_mlp)
BUILDERS.register("whitened", whitened.build_whitened)
BUILDERS.register("resnet18", resnet.resnet18)
BUILDERS.register("resnet34", resnet.resnet34)
BUILDERS.register("resnet50", resnet.resnet50)
BUILDERS.register("resnet101", resnet.resnet101)
BUILDERS.register("resnet152", resnet.resnet152)
BUILDERS.register("wide_resnet28_10", wide_resnet.wide_resnet28_10)
BUILDERS.register("convnext_t", convnext.convnext_t)
BUILDERS.register("efficientnet_b0", efficientnet.efficientnet_b0)
BUILDERS.register("mlp_mixer_s16", mixer.mlp_mixer_s16)
BUILDERS.register("mlp_mixer_b16", mixer.mlp_mixer_b16)
BUILDERS.register("vit_ti16", vit.vit_ti16)
BUILDERS.register("vit_s16", vit.vit_s16)
BUILDERS.register("vit_b16", vit.vit_b16)
BUILDERS.register("vit_l16", vit.vit_l16)


def build_model(
  name: str,
  *,
  num_classes: int,
  image_shape: tuple[int, int, int],
  dtype: Any,
  statistics: layers.BatchStatistics = layers.WHOLE_BATCH,
  **settings,
) -> base.Model:
  """Returns a model by name.

  Args:
    name: one of BUILDERS.
    num_classes: K.
    image_shape: (H, W, C) of the images.
    dtype: of the computation; parameters and logits are float32.
    statistics: for BatchNorm, in models that use it.
    **settings: of the model, see its builder.

  Raises:
    InputError: unknown name or setting, or one that the model refuses.
  """
  builder = BUILDERS.get(name)
  if builder and "statistics" in inspect.signature(builder).parameters:
    settings["statistics"] = statistics
  return BUILDERS.build(
    name,
    num_classes=num_classes,
    image_shape=tuple(image_shape),
    dtype=dtype,
    **settings,
  )
