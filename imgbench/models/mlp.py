"""A fully connected network, the baseline of convolutional ones."""

from collections.abc import Sequence

from flax import linen as nn
import jax

from imgbench.models import base
from imgbench.models import layers


class Mlp(base.Classifier):
  """All pixels as one vector, then linear layers with ReLU, linear head.

  Parameter shapes depend on the image size.

  Attributes:
    widths: features of each hidden layer; none: a linear classifier.
    dropout: share of features dropped after each hidden layer, in [0, 1).
      Above 0 the model needs a key.
  """

  widths: Sequence[int] = (512, 256)
  dropout: float = 0.0

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    if self.widths:
      base.check_positive(widths=self.widths)
    base.check_shares(dropout=self.dropout)

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = x.reshape(x.shape[0], -1)
    for layer, width in enumerate(self.widths, 1):
      dense = nn.Dense(
        width,
        dtype=self.dtype,
        kernel_init=nn.initializers.he_normal(),
        name=f"layer{layer}",
      )
      x = nn.relu(dense(x))
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return layers.Head(self.num_classes, name="head")(x)


build_mlp = base.builder(Mlp)
