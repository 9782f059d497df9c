"""Progress of a run: a bar on a terminal, plain lines otherwise."""

from collections.abc import Mapping
import datetime
import sys

from absl import logging
import numpy as np

# Values of a record that are shown.
SHOWN = ("train/loss", "train/images_per_s", "train/mfu", "epoch")
SHOWN_ENDINGS = ("/top1_accuracy", "/multilabel_accuracy.tfds")


class Progress:
  """Shows steps done, the rate, the time left and the loss.

  Args:
    total: steps of the whole run.
    done: steps done before this start.
    global_batch_size: for the rate in images.
    bar: whether a terminal shows a bar.
  """

  def __init__(
    self, total: int, done: int, global_batch_size: int, bar: bool = True
  ):
    self._batch = global_batch_size
    self._total = total
    self._bar = None
    if bar and getattr(sys.stderr, "isatty", bool)():
      import tqdm

      self._bar = tqdm.tqdm(
        total=total,
        initial=done,
        unit="step",
        dynamic_ncols=True,
        desc="train",
        smoothing=0.1,
      )

  def advance(self, count: int, loss) -> None:
    """Counts finished steps; `loss` is a scalar or one per step."""
    if self._bar is not None:
      last = float(np.asarray(loss).reshape(-1)[-1])
      self._bar.set_postfix_str(f"loss {last:.4f}", refresh=False)
      self._bar.update(count)

  def report(self, step: int, record: Mapping[str, float]) -> None:
    """Shows a record as a line above the bar, or in the log."""
    parts = [f"step {step}/{self._total}"]
    for name, value in record.items():
      if name in SHOWN or name.endswith(SHOWN_ENDINGS):
        rate = name.endswith("_per_s")
        parts.append(f"{name} {value:,.0f}" if rate else f"{name} {value:.4g}")
    left = self._left(step, record)
    self._write(", ".join(parts) + left)

  def _left(self, step: int, record: Mapping[str, float]) -> str:
    if "train/images_per_s" not in record or step >= self._total:
      return ""
    images = (self._total - step) * self._batch
    seconds = round(images / record["train/images_per_s"])
    return f", {datetime.timedelta(seconds=seconds)} left"

  def _write(self, text: str) -> None:
    if self._bar is not None:
      self._bar.write(text, file=sys.stderr)
    else:
      logging.info("%s", text)

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()
