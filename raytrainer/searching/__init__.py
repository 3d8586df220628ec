"""``hyperparameter_search`` of the driver's trainers: transformers' call, carried out by a sweep on the cluster."""

from raytrainer.searching.search import Asked, Subject, search

__all__ = ["Asked", "Subject", "search"]
