"""Counts of the mean logits of several networks, for every choice of them, on the held-out images at their own size:

    together.py PACKED OUT.json NAME=NETWORK=WEIGHTS.pt ...

PACKED is the folder that `lab.py pack` wrote. NETWORK is a name, such as pyramid, or pyramid:conv without scans."""
import itertools, json, sys
from pathlib import Path

import torch

import mim_istd.baselines.deep
from mim_istd.detection.processor import for_inference
from mim_istd.measure.metrics import Counts, count_image, summarize
from mim_istd.training.losses import first_output
from figures import SETS
from soft import load_network

KEEP = 'IoU', 'nIoU', 'Pd', 'Fa', 'targets', 'found', 'false_components'

@torch.inference_mode()
def counts(networks, images):
    "Names -> counts, for every choice of the networks."
    choices = [c for n in range(1, len(networks) + 1) for c in itertools.combinations(networks, n)]
    found = {c: Counts() for c in choices}
    for i in range(len(images)):
        x, y = (t[None].float() for t in images.whole(i))
        said = {name: first_output(net(x))[0, 0].half().float() for name, net in networks.items()}
        for c in choices:
            found[c] += count_image((sum(said[name] for name in c)/len(c) > 0).numpy(), y[0, 0].numpy() > .5)
    return found

def figures(found): return {k: round(float(v), 6) for k, v in summarize(found).items() if k in KEEP}

if __name__ == '__main__':
    packed, out = map(Path, sys.argv[1:3])
    networks = {name: for_inference(load_network(rest, 'cpu')) for name, rest in (a.split('=', 1) for a in sys.argv[3:])}
    sets = {s: counts(networks, torch.load(packed/f'{s}_valid.pt', weights_only=False)) for s in SETS}
    rows = [dict(networks=list(c), sets={s: figures(sets[s][c]) for s in SETS}) for c in sets[SETS[0]]]
    out.write_text(json.dumps(dict(what='mean logits of several networks, each trained for 22 minutes of an H200 on the same '
                                   'lists, on the held-out images of the three sets at their own size; threshold 0.5',
                                   rows=rows), indent=1) + '\n')
