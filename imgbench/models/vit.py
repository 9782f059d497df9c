"""Vision Transformers (Dosovitskiy et al. 2021, arXiv:2010.11929).

By default the plain ViT of Beyer et al. 2022 (arXiv:2205.01580): global average
pooling, fixed sine-cosine positions, a linear head that starts at zero. With
`pooling="token"` and `posemb="learn"` it is the network of the first paper,
with the published parameter counts.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench.models import base
from imgbench.models import layers
from imgbench.models import tokens

POOLINGS = ("gap", "token", "map")
POSITIONS = ("sincos2d", "learn")
AUTO, PLAIN, CUDNN = ATTENTIONS = ("auto", "plain", "cudnn")
# What "auto" chooses if cuDNN is available; CUDNN once measured to be faster.
_ON_GPUS = PLAIN


class Attention(nn.Module):
  """Multi-head attention of tokens, or of queries to them; float32 softmax.

  `form` is one of ATTENTIONS, see `choose_attention`; queries need PLAIN.
  """

  num_heads: int
  dtype: Any
  form: str = AUTO

  @nn.compact
  def __call__(
    self, x: jax.Array, queries: jax.Array | None = None
  ) -> jax.Array:
    batch, tokens, width = x.shape
    linear = functools.partial(_Linear, width, self.dtype)
    names = ("query", "key", "value")
    parameters = [linear(name=name)(width) for name in names]
    kernels, biases = zip(*parameters, strict=True)

    heads = (batch, tokens, self.num_heads, width // self.num_heads)
    if queries is None:
      parts = project(x, kernels, biases)
    else:
      parts = project_apart(queries, kernels[:1], biases[:1])
      parts += project_apart(x, kernels[1:], biases[1:])
    qkv = [y.reshape(batch, -1, *heads[2:]) for y in parts]
    if choose_attention(self.form, heads, self.dtype) == CUDNN:
      mixed = _attend_by_cudnn(*qkv)
    else:
      mixed = attend(*(y.transpose(0, 2, 1, 3) for y in qkv))
      mixed = mixed.transpose(0, 2, 1, 3)
    mixed = mixed.reshape(batch, -1, width)
    kernel_init = nn.initializers.xavier_uniform()
    out = nn.Dense(width, dtype=self.dtype, kernel_init=kernel_init, name="out")
    return out(mixed)


def choose_attention(form: str, shape: Sequence[int], dtype: Any) -> str:
  """Returns the attention implementation in this process.

  Args:
    form: one of ATTENTIONS. "auto" chooses by platform, and falls back to
      "plain" without cuDNN.
    shape: [B, tokens, heads, features of a head].
    dtype: of query, key and value.

  Returns:
    "plain" or "cudnn".

  Raises:
    InputError: "cudnn" was requested and is not available.
  """
  if form == PLAIN or (form == AUTO and _ON_GPUS == PLAIN):
    return PLAIN
  why = _why_not_cudnn(shape, dtype)
  if not why:
    return CUDNN
  if form == AUTO:
    return PLAIN
  raise errors.InputError("attention", "auto or plain", repr(form), why)


def _why_not_cudnn(shape, dtype) -> str:
  """Returns why cuDNN cannot compute attention here; "": it can.

  Tracing the call makes JAX check dtype, head size and cuDNN's version.
  """
  platform = jax.default_backend()
  if platform != "gpu":
    return f"cuDNN needs an NVIDIA GPU, the platform is {platform}"
  array = jax.ShapeDtypeStruct(tuple(shape), dtype)
  try:
    jax.eval_shape(_attend_by_cudnn, array, array, array)
  except (NotImplementedError, RuntimeError, ValueError) as error:
    return " ".join(str(error).split())
  return ""


_attend_by_cudnn = functools.partial(
  jax.nn.dot_product_attention, implementation="cudnn"
)


class _Linear(nn.Module):
  """Linear layer that returns kernel and bias; the caller applies them."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
    kernel_init = nn.initializers.xavier_uniform()
    shape = (inputs, self.features)
    kernel = self.param("kernel", kernel_init, shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, shape[1:], jnp.float32)
    return kernel.astype(self.dtype), bias.astype(self.dtype)


def project(
  x: jax.Array, kernels: Sequence[jax.Array], biases: Sequence[jax.Array]
) -> Sequence[jax.Array]:
  """Returns linear maps of the same input.

  One product on NVIDIA GPUs, which saves 264 of 1,407 kernels in the training
  step of a ViT-S/16 on an H200; elsewhere one product per map.

  Args:
    x: [B, tokens, features].
    kernels: [features, outputs] each; separate parameters, because initial
      scales and Muon's updates refer to one matrix.
    biases: [outputs] each.

  Returns:
    [B, tokens, outputs] for each kernel.
  """
  return jax.lax.platform_dependent(
    x, kernels, biases, cuda=project_joined, default=project_apart
  )


def project_apart(x, kernels, biases):
  """Returns linear maps by one product per map."""
  pairs = zip(kernels, biases, strict=True)
  return tuple(x @ kernel + bias[None, None] for kernel, bias in pairs)


def project_joined(x, kernels, biases):
  """Returns linear maps by one product with the joined kernels."""
  y = x @ jnp.concatenate(kernels, axis=1)
  y += jnp.concatenate(biases)[None, None]
  return tuple(jnp.split(y, len(kernels), axis=-1))


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
  """Returns values weighted by the float32 softmax of scaled inner products.

  Computes jax.nn.dot_product_attention with heads before tokens. JAX's order
  makes XLA:CPU transpose inside its matrix products: 34 instead of 18 ms,
  forward and backward, for 8 images of a ViT-S/16 on two cores. Dividing the
  second product by the sums, which is smaller than the weights, takes 3.9
  instead of 5.8 ms forward and 12.5 instead of 13.8 ms with backward.

  Args:
    query, key, value: [B, heads, tokens, features of a head].

  Returns:
    The same shape and dtype.
  """
  logits = _inner_products(query, key) * query.shape[-1] ** -0.5
  peak = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
  weights = jnp.exp(logits - peak)
  total = weights.sum(-1, keepdims=True)
  mixed = weights.astype(value.dtype) @ value
  return (mixed.astype(jnp.float32) / total).astype(value.dtype)


@jax.custom_vjp
def _inner_products(query: jax.Array, key: jax.Array) -> jax.Array:
  """Returns inner products of queries and keys, float32 [B, heads, T, T].

  The gradient is first rounded to the dtype of the inputs: autodiff would keep
  it in float32, and GPUs would compute two float32 products per block.
  """
  return _einsum_of_heads(query, key, preferred_element_type=jnp.float32)


_einsum_of_heads = functools.partial(jnp.einsum, "bhqd,bhkd->bhqk")


def _inner_products_forward(query, key):
  return _inner_products(query, key), (query, key)


def _inner_products_backward(saved, grad):
  _, pull = jax.vjp(_einsum_of_heads, *saved)
  return pull(grad.astype(saved[0].dtype))


_inner_products.defvjp(_inner_products_forward, _inner_products_backward)


class VitBlock(nn.Module):
  """Residual attention and MLP, each after a norm."""

  num_heads: int
  mlp_hidden: int
  dropout: float
  drop_path: float
  norm: Callable
  dtype: Any
  attention_form: str
  activation: str

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    def branch(y):
      y = nn.Dropout(self.dropout, deterministic=not train)(y)
      return layers.drop_path(y, self.drop_path, train)

    y = self.norm(name="norm1")(x)
    attention = Attention(
      self.num_heads, self.dtype, self.attention_form, name="attention"
    )
    x += branch(attention(y))
    y = self.norm(name="norm2")(x)
    mlp = tokens.Mlp(
      self.mlp_hidden,
      self.dropout,
      self.dtype,
      activation=self.activation,
      name="mlp",
    )
    return x + branch(mlp(y, train))


class MapHead(nn.Module):
  """Attention of a trained query to all tokens, then a residual MLP.

  Source: Zhai et al. 2022 (arXiv:2106.04560), after Lee et al. 2019.
  """

  num_heads: int
  mlp_hidden: int
  norm: Callable
  dtype: Any
  activation: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (1, 1, x.shape[-1])
    probe = self.param("probe", nn.initializers.xavier_uniform(), shape)
    probe = jnp.broadcast_to(probe, (len(x), *shape[1:])).astype(self.dtype)
    attention = Attention(self.num_heads, self.dtype, PLAIN, name="attention")
    x = attention(x, probe)
    mlp = tokens.Mlp(
      self.mlp_hidden, 0.0, self.dtype, activation=self.activation, name="mlp"
    )
    x += mlp(self.norm(name="norm")(x), False)
    return x[:, 0].astype(jnp.float32)


class VisionTransformer(base.Classifier):
  """Patches, positions, blocks, norm, pooling, linear head.

  Residual sums are in `dtype`; norm statistics, softmax, pooling and head are
  float32. With `dropout` or `drop_path` the model needs a key.

  Attributes:
    width: F, features of a token.
    depth: number of blocks.
    num_heads: of the attention; must divide `width`.
    mlp_ratio: hidden width of the MLPs over `width`.
    patch_size: side of a patch; must divide H and W.
    pooling: "gap", mean over all patches, "token", a class token, or "map",
      attention of a trained query to all patches.
    posemb: "sincos2d", fixed (none for a class token), or "learn", trained, one
      for each patch and the class token.
    pre_logits: whether a linear layer and tanh precede the head.
    zero_head: whether the head's kernel starts at zero.
    dropout: share of features dropped after the positions, in the MLPs and at
      the end of each residual branch, in [0, 1).
    drop_path: share of examples that skip a residual branch of the last block;
      it grows linearly from 0 in the first (Huang et al. 2016).
    attention: "plain", matrix products and a softmax; "cudnn", one fused
      kernel on NVIDIA GPUs in half precision; "auto", by platform.
    activation: of the MLPs, see `layers.activation`; timm's is "gelu_exact".
  """

  width: int
  depth: int
  num_heads: int
  mlp_ratio: int = 4
  patch_size: int = 16
  pooling: str = "gap"
  posemb: str = "sincos2d"
  pre_logits: bool = False
  zero_head: bool = True
  dropout: float = 0.0
  drop_path: float = 0.0
  attention: str = AUTO
  activation: str = "gelu"

  @nn.nowrap
  def check(self, image_shape: tuple[int, int, int]) -> None:
    """See `base.Classifier`."""
    width, num_heads = self.width, self.num_heads
    tokens.check_patches(image_shape, self.patch_size)
    base.check_positive(
      width=width,
      depth=self.depth,
      num_heads=num_heads,
      mlp_ratio=self.mlp_ratio,
    )
    divisor = f"a divisor of the width {width}"
    errors.check(not width % num_heads, "num_heads", divisor, num_heads)
    for key, names in (
      ("posemb", POSITIONS),
      ("pooling", POOLINGS),
      ("attention", ATTENTIONS),
    ):
      value = getattr(self, key)
      expected = f"one of {', '.join(names)}"
      errors.check(value in names, key, expected, repr(value))
    fits = self.posemb != "sincos2d" or not width % 4
    multiple = "a multiple of 4 for posemb 'sincos2d'"
    errors.check(fits, "width", multiple, width)
    base.check_shares(dropout=self.dropout, drop_path=self.drop_path)
    layers.activation(self.activation)

  @nn.nowrap
  def attention_form(self, image_shape: tuple[int, int, int]) -> str:
    """See `base.Model`."""
    rows, cols = (side // self.patch_size for side in image_shape[:2])
    num_tokens = rows * cols + (self.pooling == "token")
    heads = (1, num_tokens, self.num_heads, self.width // self.num_heads)
    return choose_attention(self.attention, heads, self.dtype)

  @nn.nowrap
  def plain(self) -> "VisionTransformer":
    """See `base.Classifier`."""
    return self.clone(attention=PLAIN)

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    norm = functools.partial(tokens.LayerNorm, dtype=self.dtype)
    embed = tokens.PatchEmbedding(
      self.width, self.patch_size, self.dtype, name="patches"
    )
    x = self._add_positions(embed(images), images.shape[1:3])
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    for index in range(self.depth):
      x = VitBlock(
        num_heads=self.num_heads,
        mlp_hidden=self.width * self.mlp_ratio,
        dropout=self.dropout,
        drop_path=self.drop_path * index / max(1, self.depth - 1),
        norm=norm,
        dtype=self.dtype,
        attention_form=self.attention,
        activation=self.activation,
        name=f"block{index + 1}",
      )(x, train)
    x = norm(name="norm")(x)
    with jax.named_scope("pool"):
      if self.pooling == "gap":
        x = jnp.mean(x, axis=1, dtype=jnp.float32)
      elif self.pooling == "map":
        hidden = self.width * self.mlp_ratio
        settings = (self.num_heads, hidden, norm, self.dtype, self.activation)
        x = MapHead(*settings, name="pool")(x)
      else:
        x = x[:, 0].astype(jnp.float32)
    if self.pre_logits:
      x = nn.tanh(nn.Dense(self.width, name="pre_logits")(x))
    kernel_init = nn.initializers.lecun_normal()
    if self.zero_head:
      kernel_init = nn.initializers.zeros
    head = layers.Head(self.num_classes, kernel_init=kernel_init, name="head")
    return head(x)

  def _add_positions(self, x: jax.Array, image_size) -> jax.Array:
    """Adds positions to [B, P, F], after a class token if there is one."""
    rows, cols = (side // self.patch_size for side in image_size)
    learned = self.posemb == "learn"
    if not learned:
      x += jnp.asarray(sincos2d(rows, cols, self.width), self.dtype)[None]
    if self.pooling == "token":
      shape = (1, 1, self.width)
      token = self.param("token", nn.initializers.zeros, shape, jnp.float32)
      token = jnp.broadcast_to(token, (x.shape[0], 1, self.width))
      x = jnp.concatenate([token.astype(self.dtype), x], axis=1)
    if learned:
      shape = (1, x.shape[1], self.width)
      init = nn.initializers.normal(self.width**-0.5)
      x += self.param("posemb", init, shape, jnp.float32).astype(self.dtype)
    return x


def sincos2d(rows: int, cols: int, width: int) -> np.ndarray:
  """Returns fixed positions, float32 [rows * cols, width].

  A quarter each: sine and cosine of the column, sine and cosine of the row, at
  angular frequencies that fall geometrically from 1 to 1e-4 (both included, as
  in the code of the source).

  Source: Beyer et al. 2022 (arXiv:2205.01580), after Chen et al. 2021
    (arXiv:2104.02057).
  """
  frequencies = 1e4 ** -np.linspace(0.0, 1.0, width // 4)
  row, col = np.divmod(np.arange(rows * cols), cols)
  row, col = row[:, None] * frequencies, col[:, None] * frequencies
  waves = [np.sin(col), np.cos(col), np.sin(row), np.cos(row)]
  return np.concatenate(waves, axis=1).astype(np.float32)


vit_ti16 = base.builder(VisionTransformer, width=192, depth=12, num_heads=3)
vit_s16 = base.builder(VisionTransformer, width=384, depth=12, num_heads=6)
vit_b16 = base.builder(VisionTransformer, width=768, depth=12, num_heads=12)
vit_l16 = base.builder(VisionTransformer, width=1024, depth=24, num_heads=16)
