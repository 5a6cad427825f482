"""Figures of one network on packed images, on processors:

    figures.py NETWORK WEIGHTS PACKED OUT.json --parts valid test --views x1 x2 c0.5 --thresholds 0.5 --jobs 12

PACKED is the folder that `lab.py pack` wrote. NETWORK is a name, such as pyramid, or pyramid:conv for the one without
scans. x2 is twice the size, c0.5 half the contrast."""
import argparse, json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F

from mim_istd.detection.processor import for_inference
from mim_istd.measure.metrics import Counts, count_image, summarize
from mim_istd.model.network import get_model
from mim_istd.training.losses import first_output

SETS = 'NUAA-SIRST', 'IRSTD-1k', 'NUDT-SIRST'
KEEP = 'IoU', 'nIoU', 'Pd', 'Fa', 'images', 'targets', 'found', 'components', 'false_components'

def seen(x, y, view):
    "An image and its mask (1, 1, H, W) as a view shows them; masks from half coverage on."
    by = float(view[1:])
    if view[0] == 'c': return x*by, y
    if by == 1: return x, y
    again = lambda t: F.interpolate(t, scale_factor=by, mode='bilinear', antialias=by < 1)
    return again(x), (again(y) >= .5).float()

@torch.inference_mode()
def count(task):
    "The counts of every n-th image, for each threshold."
    o, part, s, view, first = task
    torch.set_num_threads(1)
    name, _, mixer = o.network.partition(':')
    model = get_model(name, **dict(mixer=mixer) if mixer else {})
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in torch.load(o.weights).items()})
    model, images = for_inference(model.eval()), torch.load(Path(o.packed)/f'{s}_{part}.pt', weights_only=False)
    counts = {t: Counts() for t in o.thresholds}
    for i in range(first, len(images), o.jobs):
        x, y = seen(*(t[None].float() for t in images.whole(i)), view)
        score = first_output(model(x))[0, 0].sigmoid().numpy()
        for t in counts: counts[t] += count_image(score > t, y[0, 0].numpy() > .5)
    return (part, s, view), counts

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    for name in ('network', 'weights', 'packed', 'out'): p.add_argument(name)
    p.add_argument('--parts', nargs='+', default=['valid', 'test']); p.add_argument('--views', nargs='+', default=['x1'])
    p.add_argument('--sets', nargs='+', default=SETS); p.add_argument('--jobs', type=int, default=1)
    p.add_argument('--thresholds', nargs='+', type=float, default=[.5])
    o, total, found = p.parse_args(), {}, {}
    with ProcessPoolExecutor(o.jobs) as pool:
        for key, counts in pool.map(count, [(o, part, s, view, k) for part in o.parts for s in o.sets
                                            for view in o.views for k in range(o.jobs)]):
            mine = total.setdefault(key, {t: Counts() for t in counts})
            for t, c in counts.items(): mine[t] += c
    for (part, s, view), counts in total.items():
        found.setdefault(part, {}).setdefault(s, {})[view] = {
            t: {k: round(float(v), 8) for k, v in summarize(c).items() if k in KEEP} for t, c in counts.items()}
    Path(o.out).write_text(json.dumps(found, indent=1) + '\n')
