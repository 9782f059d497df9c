"""Scores predictions of any framework as an evaluation scores a run's."""
