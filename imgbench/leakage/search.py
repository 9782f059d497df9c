"""Finds images of a test split among those of a training split.

Exact copies have the same pixels. Near duplicates are found in two steps, both
on thumbnails of 32x32:

1. Each test image, and its mirror image, is compared with crops of each
   training image by a hash of 51 numbers: low frequencies of its cosine
   transform, as in pHash, kept as numbers. The best few training images are
   candidates.
2. Scale and offset of a candidate are fitted to the test image by Gauss-Newton
   (Lucas and Kanade 1981). The pair counts if the correlation of their fine
   structure, grey values without those that a blur keeps, is high. Brightness,
   contrast and color do not change it, and smooth images that only look alike
   do not have it.
"""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors

SIDE = 32  # of thumbnails
MOST = 4  # training images that are found for a test image, at most
# Least correlation of fine structure; see `experiments.leakage_check`.
SIMILARITY = 0.8

_POINTS, _FREQUENCIES, _OF_COLOR = 8, 6, 3  # per side
# Shares of the side of a training image that crops have. Smaller ones are
# reached from these by the second step.
_SCALES = (1.0, 0.9, 0.8)
_LEAST_SCALE = 0.6
_LEAST_MATCH = 0.7  # of hashes
_PART = 4096  # images hashed at once
_QUERIES, _COLUMNS = 500, 2048  # of a block of the product of all hashes
_PLACE = _COLUMNS - 1  # bits that hold a column, in place of the last digits
_BATCH = 256  # pairs fitted at once
_FITS = 8
# Largest change of the logarithm of the scale and of the center, per step.
_STEPS = np.array([0.05, 1.0, 1.0], np.float32)
_FINE, _COARSE = 0.7, 2.0  # standard deviations of blurs, in pixels


@dataclasses.dataclass(frozen=True)
class Pairs:
  """P pairs of a test image and a training image, the most similar first.

  Attributes:
    test: int [P], index of the test image.
    train: int [P], index of the training image.
    mirrored: bool [P], whether the test image is mirrored.
    scale: float32 [P], side of the found crop over that of the training image.
    similarity: float32 [P], correlation of fine structure; 1 for exact copies.
  """

  test: np.ndarray
  train: np.ndarray
  mirrored: np.ndarray
  scale: np.ndarray
  similarity: np.ndarray

  def __len__(self) -> int:
    return len(self.test)

  def take(self, rows: np.ndarray) -> "Pairs":
    """Returns some pairs, by integer [n] or bool [P]."""
    return Pairs(**{name: array[rows] for name, array in vars(self).items()})


def digest(images: np.ndarray) -> list[bytes]:
  """Returns 16 bytes for each image, equal for equal pixels and shapes."""
  shape = str(images.shape[1:]).encode()
  return [
    hashlib.blake2b(image.tobytes(), digest_size=16, salt=shape[:16]).digest()
    for image in np.ascontiguousarray(images)
  ]


def find_exact(test: Sequence[bytes], train: Sequence[bytes]) -> Pairs:
  """Returns the pairs of equal digests, MOST of a test image at most."""
  places: dict[bytes, list[int]] = {}
  for index, found in enumerate(train):
    places.setdefault(found, []).append(index)
  pairs = [
    (i, j) for i, found in enumerate(test) for j in places.get(found, ())[:MOST]
  ]
  rows = np.array(pairs, np.int64).reshape(-1, 2)
  ones = np.ones(len(rows), np.float32)
  return Pairs(
    test=rows[:, 0],
    train=rows[:, 1],
    mirrored=np.zeros(len(rows), bool),
    scale=ones,
    similarity=ones,
  )


def shrink(images: np.ndarray) -> np.ndarray:
  """Returns uint8 [B, 32, 32, 3], means of areas of uint8 [B, H, W, C]."""
  _, height, width, channels = images.shape
  if channels == 1:
    images = np.repeat(images, 3, axis=-1)
  if (height, width) == (SIDE, SIDE):
    return images
  rows = _areas(height, SIDE, 0.0, height)
  columns = _areas(width, SIDE, 0.0, width)
  small = np.einsum("ah,nhwk->nawk", rows, images, optimize=True)
  small = np.einsum("bw,nawk->nabk", columns, small, optimize=True)
  return np.rint(small).astype(np.uint8)


def _areas(size: int, points: int, start: float, length: float) -> np.ndarray:
  """Returns float32 [points, size]: means of equal parts of an interval."""
  edges = start + length * np.arange(points + 1) / points
  pixels = np.arange(size)
  low = np.maximum(edges[:-1, None], pixels)
  high = np.minimum(edges[1:, None], pixels + 1)
  weights = np.maximum(high - low, 0)
  return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _list_crops(scales: Sequence[float]) -> np.ndarray:
  """Returns float32 [C, 3]: side, top and left of crops of a thumbnail."""
  return np.array(
    [
      (SIDE * scale, y, x)
      for scale in scales
      for y in np.linspace(0, SIDE * (1 - scale), 3 if scale < 1 else 1)
      for x in np.linspace(0, SIDE * (1 - scale), 3 if scale < 1 else 1)
    ],
    np.float32,
  )


_CROPS = _list_crops(_SCALES)
_WHOLE = _CROPS[:1]


@functools.partial(jax.jit, static_argnames="whole")
def _hash(images, whole: bool):
  """Returns unit vectors [C, N, D] of C crops of thumbnails [N, 32, 32, 3]."""
  crops = _WHOLE if whole else _CROPS
  u = np.arange(_FREQUENCIES)[:, None]
  cosines = np.cos(np.pi * u * (np.arange(_POINTS) + 0.5) / _POINTS)
  rows, columns = (
    jnp.stack([cosines @ _areas(SIDE, _POINTS, c[i], c[0]) for c in crops])
    for i in (1, 2)
  )
  red, green, blue = jnp.moveaxis(images.astype(jnp.float32), -1, 0)
  # Colors vary about half as much as brightness.
  grey = (red + green + blue) / 3
  planes = jnp.stack([grey, red - blue, (red + blue) - 2 * green], -1)
  found = jnp.einsum("cuh,nhwk,cvw->cnuvk", rows, planes, columns)
  # In photographs amplitudes fall as 1 / frequency; roots make up half of it.
  weights = np.sqrt(np.hypot(u, u.T))[None, None, :, :, None]
  kept = np.ones((_FREQUENCIES, _FREQUENCIES, 3), bool)
  kept[_OF_COLOR:, :, 1:] = kept[:, _OF_COLOR:, 1:] = kept[0, 0] = False
  return _normalize((found * weights)[..., kept])


def _normalize(vectors):
  norm = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / jnp.maximum(norm, 1e-3)


@jax.jit
def _match_block(queries, images):
  """Returns int32 [Q], the best match of each query in a block of images.

  Its upper bits are those of the cosine, a positive float32, so that matches
  are ordered by it; the lowest 11 have the column (crop, image). One maximum is
  four times as fast as argmax.
  """
  hashes = _hash(images, whole=False).reshape(-1, queries.shape[-1])
  columns = jnp.arange(len(hashes), dtype=jnp.int32)

  def match(some):
    cosines = jnp.maximum(some @ hashes.T, 0.0)
    bits = jax.lax.bitcast_convert_type(cosines, jnp.int32)
    return ((bits & ~_PLACE) | columns[None]).max(1)

  return jax.lax.map(match, queries.reshape(-1, _QUERIES, queries.shape[-1]))


def _find_candidates(
  queries: np.ndarray, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns query, image and row of _CROPS, int [P] each, of the best matches.

  These are the MOST best ones of each query with a cosine high enough.
  """
  size = min(_COLUMNS // len(_CROPS), len(train))
  here = np.arange(len(queries))
  parts = np.array_split(queries, range(_PART, len(queries), _PART))
  hashes = jnp.concatenate([_hash(part, True)[0] for part in parts])
  hashes = jnp.pad(hashes, ((0, -len(queries) % _QUERIES), (0, 0)))
  best = np.zeros((MOST, len(queries)), np.int64)
  for start in range(0, len(train), size):
    start = min(start, len(train) - size)  # All blocks have one size.
    found = _match_block(hashes, train[start : start + size])
    found = np.asarray(found).reshape(-1)[here].astype(np.int64)
    crop, image = np.divmod(found & _PLACE, size)
    # As in the block: the cosine is in the upper bits.
    code = (found & ~_PLACE) << 32 | crop << 32 | (start + image)
    least = best.argmin(0)
    best[least, here] = np.maximum(best[least, here], code)
  upper = (best >> 32).astype(np.int32)
  cosine = (upper & ~_PLACE).view(np.float32)
  rank, query = np.nonzero(cosine >= _LEAST_MATCH)
  image = (best & (2**32 - 1))[rank, query]
  return query, image, (upper & _PLACE)[rank, query]


def find_near(
  test: np.ndarray, train: np.ndarray, least: float = SIMILARITY
) -> Pairs:
  """Returns pairs of images of which one is a copy of the other.

  Copies are recompressed, brightened or mirrored images, other colors, and
  crops of a training image with at least 0.6 of its side.

  Args:
    test: thumbnails uint8 [M, 32, 32, 3].
    train: thumbnails uint8 [N, 32, 32, 3].
    least: similarity of a pair, in (0, 1].

  Raises:
    InputError: another shape, or a setting out of range.
  """
  for name, images in (("test", test), ("train", train)):
    fits = images.ndim == 4 and images.shape[1:] == (SIDE, SIDE, 3)
    expected = f"at least one thumbnail [N, {SIDE}, {SIDE}, 3]"
    errors.check(fits and len(images) > 0, name, expected, list(images.shape))
  errors.check(0 < least <= 1, "least", "a number in (0, 1]", least)
  queries = np.concatenate([test, test[:, :, ::-1]])
  query, image, crop = _find_candidates(queries, train)
  pairs = measure(queries, query, train, image, _CROPS[crop])
  order = np.argsort(-pairs.similarity, kind="stable")
  pairs = pairs.take(order[pairs.similarity[order] >= least])
  # An image and its mirror image may both match, of images with symmetry.
  mirrored, index = np.divmod(pairs.test, len(test))
  _, first = np.unique(index * len(train) + pairs.train, return_index=True)
  pairs = dataclasses.replace(pairs, test=index, mirrored=mirrored > 0)
  return pairs.take(np.sort(first))


def measure(
  test: np.ndarray,
  test_index: np.ndarray,
  train: np.ndarray,
  train_index: np.ndarray,
  crops: np.ndarray | None = None,
) -> Pairs:
  """Returns given pairs of thumbnails with the crops that fit best.

  Args:
    test: uint8 [M, 32, 32, 3].
    test_index: int [P].
    train: uint8 [N, 32, 32, 3].
    train_index: int [P].
    crops: float32 [P, 3], side, top and left of the training image to start
      from; None: all of it.
  """
  count = len(test_index)
  crops = np.repeat(_WHOLE, count, axis=0) if crops is None else crops
  similarity, scale = np.empty((2, count), np.float32)
  for start in range(0, count, _BATCH):
    rows = np.arange(start, start + _BATCH) % count
    some = slice(start, min(start + _BATCH, count))
    fitted = _fit(test[test_index[rows]], train[train_index[rows]], crops[rows])
    similarity[some], scale[some] = (
      np.asarray(x)[: some.stop - start] for x in fitted
    )
  return Pairs(
    test=test_index,
    train=train_index,
    mirrored=np.zeros(count, bool),
    scale=scale,
    similarity=similarity,
  )


@jax.jit
@jax.vmap
def _fit(test, train, crop):
  """Returns the similarity of a pair, and the scale of the crop that fits.

  Args:
    test: uint8 [32, 32, 3].
    train: uint8 [32, 32, 3].
    crop: float32 [3], side, top and left to start from.
  """
  test, train = (x.astype(jnp.float32).mean(-1) for x in (test, train))
  wanted = _standardize(_blur(test, _FINE))
  smooth = _blur(train, _FINE)

  def step(at, _):
    warped = lambda at: _standardize(_cut(smooth, at)).ravel()
    slopes = jax.jacfwd(warped)(at)
    # Flat images have no slopes.
    normal = slopes.T @ slopes + jnp.diag(jnp.array([1e-3, 1e-5, 1e-5]))
    move = jnp.linalg.solve(normal, slopes.T @ (wanted.ravel() - warped(at)))
    log_scale, y, x = at + jnp.clip(move, -_STEPS, _STEPS)
    log_scale = jnp.clip(log_scale, math.log(_LEAST_SCALE), 0.0)
    most = SIDE * (1 - jnp.exp(log_scale)) / 2 + 1
    center = jnp.clip(jnp.stack([y, x]), -most, most)
    return jnp.concatenate([log_scale[None], center]), None

  side = crop[0]
  start = jnp.concatenate(
    [jnp.log(side / SIDE)[None], crop[1:] + (side - SIDE) / 2]
  )
  at, _ = jax.lax.scan(step, start, length=_FITS)
  fine = [
    _standardize(_blur(x, _FINE) - _blur(x, _COARSE))
    for x in (test, _cut(train, at))
  ]
  return (fine[0] * fine[1]).sum(), jnp.exp(at[0])


def _standardize(image):
  image = image - image.mean()
  return image / jnp.maximum(jnp.sqrt((image**2).sum()), 1e-3)


def _blur(image, sigma: float):
  distance = np.subtract.outer(np.arange(SIDE), np.arange(SIDE))
  weights = np.exp(-0.5 * (distance / sigma) ** 2)
  weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
  return weights @ image @ weights.T


def _cut(image, at):
  """Returns a crop [32, 32], interpolated linearly.

  Args:
    image: float32 [32, 32].
    at: float32 [3], logarithm of the scale, and center from that of the image.
  """
  step = jnp.exp(at[0])
  places = step * (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2)

  def weigh(center):
    points = places + center + (SIDE - 1) / 2
    distance = points[:, None] - np.arange(SIDE, dtype=np.float32)[None]
    weights = jax.nn.relu(1 - jnp.abs(distance))
    return weights / jnp.maximum(weights.sum(1, keepdims=True), 1e-3)

  return weigh(at[1]) @ image @ weigh(at[2]).T
