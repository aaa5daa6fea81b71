"""Classes of the estimators that scikit-learn does not have, by its conventions.

A model's file imports one where it builds an estimator, because scikit-learn takes a second to import and what only
scores networks does without it. Knows nothing of models, settings or features.
"""
