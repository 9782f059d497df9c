"""Numbers of reviewed images and labels, by review result."""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from imgbench.papers.readers import reviews as reviews_lib
from imgbench.tables import formats
from imgbench.tables import table

COLUMNS = ("dataset", "quantity", "count", "share")

ALL_IMAGES = "all reviewed images"


def rows(
  reviews: reviews_lib.Reviews, image_sets: Mapping[str, Collection[str]]
) -> list[tuple[Any, ...]]:
  """Returns rows of COLUMNS for all images, and for those of each set.

  Labels are counted on images that are not problematic. Shares of pairs are
  relative to all reviewed pairs of image and label, shares of images to all
  counted images. Lists of accepted labels have "accepted" instead of "correct"
  pairs, and no others.

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
  accepted = "correct" if reviews.tells_states else "accepted"
  total = sum(pairs.values())
  if not reviews.tells_states:
    pairs = {"accepted": total}
  result = [
    (name, "images_reviewed", len(images), None),
    (name, "images_problematic", len(images) - len(counted), None),
    (name, "images_counted", len(counted), None),
    (name, "pairs_reviewed", total, None),
  ]
  result += [
    (name, f"pairs_{state}", count, count / total if total else None)
    for state, count in pairs.items()
  ]
  share = lambda number: number / len(sizes) if sizes else None
  several = sum(size > 1 for size in sizes)
  result.append(
    (name, f"images_with_several_{accepted}_labels", several, share(several))
  )
  for size in range(max(sizes, default=0) + 1):
    number = sizes.count(size)
    result.append(
      (name, f"images_with_{size}_{accepted}_labels", number, share(number))
    )
  return result


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
