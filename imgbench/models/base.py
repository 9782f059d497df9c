"""Interface of all models: pure functions over plain dicts."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import inspect
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from imgbench import errors

Variables = dict[str, Any]
FROZEN = "frozen"  # a collection that never changes


@dataclasses.dataclass(frozen=True)
class Model:
  """A classifier, or an autoencoder, as pure functions.

  Attributes:
    init: key -> variables, a dict of collections: "params", float32, is
      trained, others ("batch_stats", "frozen") are the model's state.
    apply: (variables, images [B, H, W, C], train, key=None) -> (logits float32
      [B, K], state), where state is every collection but "params", of the same
      shapes and dtypes; all but "frozen" may change if `train`. Images are
      normalised, in `dtype`. The key is for dropout in training.
    dtype: of the computation; parameters and statistics stay float32.
    prepare: None, or (variables, images float [N, H, W, C]) -> variables, to
      be called once before training with normalised training images.
    needs_key: whether `apply` needs a key in training; otherwise it ignores it.
    attention: None, or () -> the attention implementation in this process, e.g.
      "plain"; raises InputError if the requested one is not available.
    fold: None, or variables -> variables that give the same logits up to
      rounding at less cost. Only for `apply` without `train`.
    definition: None, or () -> the same model independent of the platform; FLOPs
      are counted in it.
    reconstructs: whether `apply` returns images instead of logits: float32 [B,
      H, W, C], pixels in [0, 1].
  """

  init: Callable[[jax.Array], Variables]
  apply: Callable[..., tuple[jax.Array, dict[str, Any]]]
  dtype: Any
  prepare: Callable[[Variables, jax.Array], Variables] | None = None
  needs_key: bool = False
  attention: Callable[[], str] | None = None
  fold: Callable[[Variables], Variables] | None = None
  definition: Callable[[], "Model"] | None = None
  reconstructs: bool = False


class Classifier(nn.Module):
  """A Flax module whose fields are the settings of a model.

  A subclass declares each setting once, as a field with its default, and
  describes it under "Attributes"; `builder` turns fields into keyword
  arguments. It is called as module(images, train=bool) and returns logits, or
  images if its class attribute `reconstructs` is true (see `Model`). A
  subclass may define `prepare(variables, images)`, `fold(variables)` and
  `attention_form(image_shape)`, see `Model`; like the methods below they use
  the settings alone.

  Attributes:
    num_classes: K.
    dtype: of the computation; parameters, statistics and logits are float32.
  """

  num_classes: int
  dtype: Any

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """Raises InputError if settings or images (H, W, C) are out of range."""

  @nn.nowrap
  def plain(self) -> "Classifier":
    """Returns the module in a form independent of the platform."""
    return self


def builder(
  module: type[Classifier],
  fixed: Mapping[str, Any] | None = None,
  **defaults,
) -> Callable[..., Model]:
  """Returns a function from settings to a Model.

  Its keyword arguments are the fields of the module and `image_shape`.

  Args:
    module: a class.
    fixed: values of fields that users cannot set.
    **defaults: defaults that differ from those of the fields.

  Raises:
    TypeError: a class of another kind.
  """
  if not issubclass(module, Classifier):
    expected = f"a subclass of {__name__}.Classifier"
    raise TypeError(f"expected {expected}, got {module.__name__}")
  fixed = fixed or {}

  def build(*, image_shape: tuple[int, int, int], **settings) -> Model:
    settings = {name: _frozen(value) for name, value in settings.items()}
    return from_module(module(**{**defaults, **fixed, **settings}), image_shape)

  hidden = {"parent", "name", *fixed}  # the first two are Flax's
  parameters = {
    name: parameter.replace(
      kind=parameter.KEYWORD_ONLY, default=defaults.get(name, parameter.default)
    )
    for name, parameter in inspect.signature(module).parameters.items()
    if name not in hidden
  }
  image_shape = inspect.Parameter("image_shape", inspect.Parameter.KEYWORD_ONLY)
  # `registry.call` checks settings against it.
  signature = inspect.Signature([image_shape, *parameters.values()])
  build.__signature__ = signature  # type: ignore[attr-defined]
  build.__doc__ = inspect.getdoc(module)
  return build


def _frozen(value: Any) -> Any:
  """Converts lists to tuples, recursively, so that modules are hashable."""
  if isinstance(value, list | tuple):
    return tuple(_frozen(part) for part in value)
  return value


def from_module(module: Classifier, image_shape: tuple[int, int, int]) -> Model:
  """Returns the Model of a module with all settings.

  Raises:
    InputError: see `Classifier.check`.
  """
  module.check(image_shape)
  dtype = module.dtype
  # Settings of these names draw something in training.
  drawing = ("dropout", "drop_path", "noise")
  needs_key = any(getattr(module, name, 0) for name in drawing)

  def init(key: jax.Array) -> Variables:
    images = jnp.zeros((1, *image_shape), dtype)
    return dict(module.init(key, images, train=False))

  def apply(
    variables: Variables,
    images: jax.Array,
    train: bool,
    key: jax.Array | None = None,
  ):
    state = {k: v for k, v in variables.items() if k != "params"}
    if train and needs_key and key is None:
      setting, expected = ", ".join(drawing), "0 without a PRNG key"
      raise errors.InputError(setting, expected, "more than 0", "pass `key`")
    logits, updated = module.apply(
      variables,
      images,
      train=train,
      mutable=[name for name in state if name != FROZEN] if train else [],
      rngs={"dropout": key} if needs_key and key is not None else None,
    )
    return logits.astype(jnp.float32), {**state, **updated}

  find_form = getattr(module, "attention_form", None)
  return Model(
    init,
    apply,
    dtype,
    getattr(module, "prepare", None),
    needs_key,
    attention=find_form and functools.partial(find_form, image_shape),
    fold=getattr(module, "fold", None),
    definition=lambda: from_module(module.plain(), image_shape),
    reconstructs=getattr(module, "reconstructs", False),
  )


def num_params(variables: Variables) -> int:
  """Returns the number of trained parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def check_image_size(image_shape: tuple[int, int, int], smallest: int) -> None:
  """Raises InputError if images are too small for the model's strides."""
  height, width, _ = image_shape
  least = f"at least {smallest}x{smallest} pixels"
  fits = min(height, width) >= smallest
  errors.check(fits, "image_shape", least, f"{height}x{width}")


def check_positive(**settings: int | Sequence[int]) -> None:
  """Raises InputError for a number below 1, alone or in a sequence."""
  for name, value in settings.items():
    numbers = value if isinstance(value, Sequence) else [value]
    errors.check(min(numbers, default=0) >= 1, name, "at least 1", value)


def check_shares(**settings: float) -> None:
  """Raises InputError for a setting that is not in [0, 1)."""
  for name, value in settings.items():
    errors.check(0 <= value < 1, name, "a number in [0, 1)", value)
