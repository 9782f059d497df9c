"""Evaluators by the name that `config.evaluation.sets.*.type` gives."""

from imgbench.evaluators import classification

EVALUATORS = {
  "classification": classification.ClassificationEvaluator,
  "multilabel": classification.MultilabelEvaluator,
  "real": classification.RealEvaluator,
}
