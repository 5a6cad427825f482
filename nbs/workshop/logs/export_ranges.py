"""Figures of the default weights with 8 bits, by the images that their ranges are found on: export_ranges.py PACKED OUT.json

PACKED is the folder that nbs/experiments/logs/lab/lab.py wrote with `pack`. Takes twenty minutes or so on one core."""
import functools, json, sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch

import mim_istd.export.quantized as quantized
from mim_istd.data.synthetic import synthesize_scene
from mim_istd.detection.detector import Detector
from mim_istd.export.onnx import onnx_model
from mim_istd.export.quantized import opened, score_of, with_bits
from mim_istd.measure.metrics import Counts, count_image, summarize

SETS = 'NUAA-SIRST', 'IRSTD-1k', 'NUDT-SIRST'

def load(packed, part): return {s: torch.load(packed/f'{s}_{part}.pt', weights_only=False) for s in SETS}

def drawn(train, count, seed):
    "So many training images of each set."
    return [images.whole(int(i))[0][0].numpy() for images in train.values()
            for i in np.random.default_rng(seed).choice(len(images), count, replace=False)]

def by_mean_extremes(model, images):
    "8 bits, with ranges that end at the mean of the images' least and largest values."
    kept = quantized.quantize_static
    quantized.quantize_static = functools.partial(kept, extra_options={'CalibMovingAverage': True})
    try: return with_bits(model, 8, images)
    finally: quantized.quantize_static = kept

def files(model, train):
    "(name of the ranges, exported file), one by one."
    own, scenes = quantized._own_images(), quantized._scenes()
    clouds = [synthesize_scene(k, shape=(256, 256), background='clouds', targets=3).image for k in range(4)]
    yield '32 bits', model
    for name, images in (("the package's three images", own), ('the three and four made-up scenes', own + clouds),
                         ('the three and 27 made-up scenes', own + scenes), ('30 training images', drawn(train, 10, 0)),
                         ('30 training images, other draw', drawn(train, 10, 1)),
                         ('30 training images, third draw', drawn(train, 10, 2)),
                         ('90 training images', drawn(train, 30, 0))): yield name, with_bits(model, 8, images)
    for name, images in (('the three', own), ('the three and 27 scenes', own + scenes),
                         ('90 training images', drawn(train, 30, 0))):
        yield f'{name}, mean of extremes', by_mean_extremes(model, images)

def counted(file, valid, thresholds=(.5, .9)):
    "Threshold -> counts of each set."
    session, counts = opened(file), {t: {s: Counts() for s in SETS} for t in thresholds}
    for s, images in valid.items():
        for i in range(len(images)):
            x, y = (t[0].numpy() for t in images.whole(i))
            score = score_of(session, x)
            for t in thresholds: counts[t][s] += count_image(score > t, y > .5)
    return counts

def row(name, threshold, counts):
    found = {s: summarize(c) for s, c in counts.items()}
    mean = {k: round(100*sum(float(f[k]) for f in found.values())/len(found), 2) for k in ('IoU', 'nIoU')}
    return dict(ranges=name, threshold=threshold, **mean,
                **{k: int(sum(f[k] for f in found.values())) for k in ('found', 'false_components')},
                IoU_and_nIoU_of={s: [round(100*float(f[k]), 1) for k in mean] for s, f in found.items()})

if __name__ == '__main__':
    packed, out = map(Path, sys.argv[1:])
    train, valid = load(packed, 'train'), load(packed, 'valid')
    model = onnx_model(Detector(device='cpu'), standardize=False)
    rows = [row(name, t, c) for name, file in files(model, train) for t, c in counted(file, valid).items()]
    out.write_text(json.dumps(dict(
        what='the default weights with 8 bits on the way up, ranges found on several groups of images, on the held-out '
             'images of the training lists (180 images, 247 targets): mean IoU and nIoU of three sets in per cent; mean '
             'of extremes: least and largest values averaged over the images (CalibMovingAverage)',
        onnxruntime=onnxruntime.__version__, rows=rows), indent=1) + '\n')
