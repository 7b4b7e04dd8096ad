"""Metrics: what is said of a model beside its loss."""

from fnn.metrics.classes import accuracy, confusion, top_k
from fnn.metrics.metric import Figure, Metric, Statistics, average, default_metrics
from fnn.metrics.pictures import psnr, ssim
from fnn.metrics.values import mae, r2, rmse

__all__ = [
    "Figure",
    "Metric",
    "Statistics",
    "accuracy",
    "average",
    "confusion",
    "default_metrics",
    "mae",
    "psnr",
    "r2",
    "rmse",
    "ssim",
    "top_k",
]
