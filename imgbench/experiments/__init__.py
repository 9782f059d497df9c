"""Experiments: experiments/ of a checkout, copied here in an installation."""

import pathlib

if not pathlib.Path(__file__).with_name("multilabel.py").exists():
  __path__.append(str(pathlib.Path(__file__).parents[2] / "experiments"))
