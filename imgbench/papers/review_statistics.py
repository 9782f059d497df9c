"""Numbers of reviewed images and labels, by review result."""

import collections
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any

import numpy as np

from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.papers import records
from imgbench.papers.readers import reviews as reviews_lib
from imgbench.tables import formats
from imgbench.tables import table

Row = tuple[Any, ...]
COLUMNS = ("dataset", "quantity", "count", "share")
CEILINGS = (
  *("dataset", "class_index", "wnid", "class_name"),
  *("images", "original_correct", "top1_ceiling", "top1_at_random"),
  *("reviewed_images", "reviewed_original_correct"),
  *("reviewed_top1_ceiling", "reviewed_top1_at_random"),
)

ALL_IMAGES = "all reviewed images"


def rows(
  reviews: reviews_lib.Reviews, image_sets: Mapping[str, Collection[str]]
) -> list[tuple[Any, ...]]:
  """Returns rows of COLUMNS for all images, and for those of each set.

  Labels are counted on images that are not problematic. Shares of pairs are
  relative to all reviewed pairs of image and label, shares of images to all
  counted images, shares of categories to all problematic ones. Lists of
  accepted labels have "accepted" instead of "correct" pairs, and no others.

  Args:
    reviews: to count in.
    image_sets: data set -> image ids; a set without reviewed images is left
      out.
  """
  found = _count_rows(ALL_IMAGES, reviews, reviews.labels)
  for name, image_ids in image_sets.items():
    chosen = [image for image in image_ids if image in reviews.labels]
    if chosen:
      found += _count_rows(name, reviews, chosen)
  return found


def _count_rows(
  name, reviews, images: Collection[str]
) -> list[tuple[Any, ...]]:
  counted = [image for image in images if image not in reviews.problematic]
  pairs = dict.fromkeys(("correct", "unclear", "wrong"), 0)
  sizes = []
  for image in counted:
    best = _count_by_state(reviews.labels[image])
    for state, found in best.items():
      pairs[state] += found
    sizes.append(best["correct"] if reviews.tells_states else best["unclear"])
  bad = set(images).difference(counted)
  reasons = collections.Counter(
    reviews.reasons.get(image, "no category")
    for image in (bad if reviews.reasons else ())
  )
  accepted = "correct" if reviews.tells_states else "accepted"
  total = sum(pairs.values())
  if not reviews.tells_states:
    pairs = {"accepted": total}
  result = [
    (name, "images_reviewed", len(images), None),
    (name, "images_problematic", len(bad), None),
    *(
      (name, f"images_problematic: {reason}", number, number / len(bad))
      for reason, number in sorted(reasons.items())
    ),
    (name, "images_counted", len(counted), None),
    (name, "pairs_reviewed", total, None),
  ]
  result += [
    (name, f"pairs_{state}", count, count / total if total else None)
    for state, count in pairs.items()
  ]
  return result + size_rows(name, accepted, sizes)


def size_rows(name: str, kind: str, sizes: Sequence[int]) -> list[Row]:
  """Returns rows of COLUMNS: images of a set by number of `kind` labels."""
  share = lambda number: number / len(sizes) if sizes else None
  several = sum(size > 1 for size in sizes)
  result: list[Row] = [
    (name, f"images_with_several_{kind}_labels", several, share(several))
  ]
  for size in range(max(sizes, default=0) + 1):
    number = sizes.count(size)
    result.append(
      (name, f"images_with_{size}_{kind}_labels", number, share(number))
    )
  return result


def draw_sizes(found: Sequence[Row], name: str):
  """Returns `themes.Theme` -> figure of the `size_rows` of a set."""
  bars = [
    (match[1], match[2].replace("_", " "), count)
    for of, quantity, count, _ in found
    if of == name
    and (match := re.fullmatch(r"images_with_(\d+)_(.*)", quantity))
  ]
  sizes, kinds, counts = zip(*bars, strict=True)

  def draw(theme):
    from imgbench.tables import themes

    figure = themes.figure(4.4, 7.0)
    axes = figure.subplots()
    drawn = axes.bar(sizes, counts, color=theme.series[0])
    axes.bar_label(drawn, list(map(formats.whole, counts)), padding=2)
    axes.set_title(f"{kinds[0].capitalize()} per image: {name}")
    axes.set(xlabel=kinds[0], ylabel=f"images (n = {sum(counts):,})")
    axes.yaxis.set_major_formatter(formats.COUNT_TICKS)
    axes.grid(axis="y")
    return figure

  return draw


def ceiling_rows(
  dataset: records.Dataset, reviews: reviews_lib.Reviews
) -> list[Row]:
  """Returns rows of CEILINGS for each class with reviewed images.

  `top1_ceiling` is the share of images whose original label is correct.
  `top1_at_random` is the expected top-1 accuracy of a classifier that names
  each correct label of an image with equal probability. Columns that begin with
  "reviewed_" include problematic images. Lists have accepted labels instead.
  """
  ids, labels = dataset.image_ids.tolist(), dataset.labels
  codes = reviews_lib.build_codes(reviews.labels, ids, dataset.num_classes)
  least = annotations.CORRECT if reviews.tells_states else annotations.UNCLEAR
  right = codes[np.arange(len(ids)), labels] >= least
  chance = right / np.maximum((codes >= least).sum(axis=1), 1)
  reviewed = np.array([image in reviews.labels for image in ids])
  counted = [image not in reviews.problematic for image in ids]
  wnids, rows = classes.imagenet_classes().wnids, []
  for i in np.unique(labels[reviewed]).tolist():
    row: Row = (dataset.name, i, wnids[i], dataset.class_names[i])
    for mask in (reviewed & counted, reviewed):
      mask = mask & (labels == i)
      n, correct = int(mask.sum()), int(right[mask].sum())
      at_random = float(chance[mask].sum())
      row += (n, correct, *(x / n if n else None for x in (correct, at_random)))
    rows.append(row)
  return rows


def _count_by_state(labels: reviews_lib.Labels) -> dict[str, int]:
  """Returns state -> number of labels; the better of two states counts."""
  seen, numbers = set(), {}
  for state in reversed(reviews_lib.STATES):
    new = set(labels.get(state, ())) - seen
    numbers[state] = len(new)
    seen |= new
  return numbers


def grid(found: Sequence[tuple[Any, ...]]) -> table.Table:
  """Returns the statistics as a table, a row for each set of images."""
  by_set: dict[str, dict[str, tuple[int, float | None]]] = {}
  for name, quantity, count, share in found:
    by_set.setdefault(name, {})[quantity] = (count, share)
  names = {
    "images_reviewed": "images",
    "images_problematic": "problematic",
    "pairs_reviewed": "image-label pairs",
    "pairs_correct": "correct",
    "pairs_unclear": "unclear",
    "pairs_wrong": "wrong",
    "images_with_several_correct_labels": "images with several correct",
    "images_with_several_accepted_labels": "images with several accepted",
  }

  def column(quantity: str):
    def cell(name: str) -> str:
      if quantity not in by_set[name]:
        return ""
      count, share = by_set[name][quantity]
      beside = "" if share is None else f" ({formats.share(share)})"
      return formats.whole(count) + beside

    return cell

  return table.from_names(
    "Reviewed images and labels; labels exclude problematic images",
    by_set,
    {header: column(quantity) for quantity, header in names.items()},
    first="images of",
  )
