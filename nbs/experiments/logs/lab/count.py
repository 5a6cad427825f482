"""Figures of the masks that `lab.py` predicted: count.py PREDICTIONS PACKED OUT.json

PREDICTIONS is the folder with its bits_*.npz, PACKED the one that `lab.py pack` wrote."""
import json, sys
from pathlib import Path

import numpy as np
import torch

from mim_istd.measure.metrics import Counts, count_image, summarize

SETS = 'NUAA-SIRST', 'IRSTD-1k', 'NUDT-SIRST'
KEEP = 'IoU', 'nIoU', 'Pd', 'Fa', 'images', 'targets', 'found', 'components', 'false_components'

def masks(packed, part, sets):
    "(set, mask) of every image of a part, in the order of the predictions."
    for s in sets:
        images = torch.load(packed/f'{s}_{part}.pt', weights_only=False)
        for first, (H, W) in zip(images.first.tolist(), images.shapes):
            yield s, images.masks[first:first + H*W].view(H, W).numpy() > 0

def figures(arrays, packed, part, sets):
    "Set -> IoU, nIoU, Pd, Fa and counts. Resized images bring their resized masks with them."
    flat, at = {k: np.unpackbits(arrays[f'{part}_{k}']) for k in ('bits', 'true') if f'{part}_{k}' in arrays}, 0
    counts = {s: Counts() for s in sets}
    for (s, mask), (H, W) in zip(masks(packed, part, sets), arrays[f'{part}_shapes']):
        here = {k: v[at:at + H*W].reshape(H, W) > 0 for k, v in flat.items()}
        counts[s] += count_image(here['bits'], here.get('true', mask))
        at += H*W
    return {s: {k: round(float(v), 8) for k, v in summarize(c).items() if k in KEEP} for s, c in counts.items()}

if __name__ == '__main__':
    predictions, packed, out = map(Path, sys.argv[1:])
    found = {}
    for file in sorted(predictions.glob('bits_*.npz')):
        arrays, left = np.load(file), 'NUDT-SIRST' if '-not-nudt' in file.name else None
        sets = dict(test=SETS, valid=[s for s in SETS if s != left], train=[left])   # the left set's training list
        found[file.stem[5:]] = {part: figures(arrays, packed, part, sets[part])
                                for part in ('valid', 'test', 'train') if f'{part}_bits' in arrays}
    out.write_text(json.dumps(found))
