"""Distributions of the scenes of each split: the shift from train to v2."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Domain:
  """Distribution of the scenes of a split; ranges are (low, high), uniform.

  Attributes:
    stream: number of the split in the random streams.
    extras: probabilities of 0, 1 and 2 other things.
    radius: of the main thing, in half sides of the image.
    extra_radius: of other things, as a share of the main thing's.
    tilt: largest tan(angle / 2) of a thing's rotation.
    clutter: number of stones, sticks and the like.
    backgrounds: probability of each kind of `drawing.BACKGROUNDS`.
    light: factor on the whole image.
    tint: largest change of red against blue.
    noise: amplitude of pixel noise, in [0, 1].
  """

  stream: int
  extras: tuple[float, float, float] = (0.4, 0.38, 0.22)
  radius: tuple[float, float] = (0.44, 0.74)
  extra_radius: tuple[float, float] = (0.32, 0.85)
  tilt: float = 0.13
  clutter: tuple[float, float] = (0.0, 3.0)
  backgrounds: tuple[float, ...] = (0.25, 0.25, 0.2, 0.15, 0.15, 0.0, 0.0)
  light: tuple[float, float] = (0.75, 1.15)
  tint: float = 0.06
  noise: tuple[float, float] = (0.03, 0.1)


DOMAINS = {
  "train": Domain(stream=0),
  "validation": Domain(stream=1),
  "v2": Domain(
    stream=2,
    extras=(0.36, 0.38, 0.26),
    radius=(0.41, 0.7),
    tilt=0.17,
    clutter=(1.0, 4.5),
    backgrounds=(0.15, 0.18, 0.17, 0.1, 0.12, 0.14, 0.14),
    light=(0.6, 1.15),
    tint=0.11,
    noise=(0.04, 0.13),
  ),
}
