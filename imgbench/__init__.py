"""imgbench: train and honestly evaluate image classifiers in JAX."""

__version__ = "0.1.0"
