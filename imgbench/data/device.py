"""Small data sets kept on the device as uint8; a batch is a gather."""

import flax.struct
import jax
import jax.numpy as jnp

from imgbench.data import source


@flax.struct.dataclass
class DeviceExamples:
  """A split on the devices, replicated.

  Attributes:
    image: uint8 [N, H, W, C].
    label: int32 [N].
    label_codes: int8 [N, K] or None.
    left_out: bool [N] or None, see `source.Examples`.
    in_imagenet_m: bool [N] or None.
  """

  image: jax.Array
  label: jax.Array
  label_codes: jax.Array | None = None
  left_out: jax.Array | None = None
  in_imagenet_m: jax.Array | None = None

  @property
  def num_examples(self) -> int:
    return self.label.shape[0]


def from_examples(examples: source.Examples) -> DeviceExamples:
  """Returns the arrays that the compiled steps read, still on the host."""
  return DeviceExamples(
    image=examples.image,
    label=examples.label,
    label_codes=examples.label_codes,
    left_out=examples.left_out,
    in_imagenet_m=examples.in_imagenet_m,
  )


def eval_batch(
  data: DeviceExamples, start: jax.Array, size: int
) -> tuple[DeviceExamples, jax.Array]:
  """Returns examples [start, start + size) and a bool [size] mask.

  Past the end the last example is repeated with a false mask.
  """
  index = start + jnp.arange(size, dtype=jnp.int32)
  mask = index < data.num_examples
  index = jnp.minimum(index, data.num_examples - 1)
  return jax.tree.map(lambda x: x[index], data), mask
