"""The evaluators by name, which `evaluation.sets.*.type` gives."""

from imgbench import registry
from imgbench.evaluators import classification
from imgbench.evaluators import reconstruction

EVALUATORS: registry.Registry = registry.Registry("evaluator")
EVALUATORS.register("classification", classification.ClassificationEvaluator)
EVALUATORS.register("multilabel", classification.MultilabelEvaluator)
EVALUATORS.register("real", classification.RealEvaluator)
EVALUATORS.register("reconstruction", reconstruction.ReconstructionEvaluator)
