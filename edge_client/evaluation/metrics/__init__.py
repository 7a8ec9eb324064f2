"""How good a picture, an answer or a curve is: every metric under the name of what it computes.

It does not know codecs, servers or cases. What needs a package of the extra `bench` imports it on
first use; `None` from a function of `optional` means that its weights are not on this machine.
"""

from edge_client.evaluation.metrics.captions import bleu, cider_d, rouge_l
from edge_client.evaluation.metrics.curves import bd_rate
from edge_client.evaluation.metrics.features import frechet, picture_features
from edge_client.evaluation.metrics.intervals import Interval, bootstrap, wilson
from edge_client.evaluation.metrics.perceptual import st_lpips
from edge_client.evaluation.metrics.pixels import psnr, ssim

__all__ = [
    "Interval",
    "bd_rate",
    "bleu",
    "bootstrap",
    "cider_d",
    "frechet",
    "picture_features",
    "psnr",
    "rouge_l",
    "ssim",
    "st_lpips",
    "wilson",
]
