"""One network, trained three times, each time without one of the sets: `leftout.py JOB.json --data … --out …`.

The step is compiled and recorded once, with the images of all sets on the device; what is left out is never drawn.
`lab.py pack` lays the sets out before. JOB.json is a job of `lab.py`, such as
{"name": "mshnet-8k-local", "model": "mshnet", "steps": 7680, "lr": 0.003, "seeds": [0], "aug": "local", "test": [],
"kind": "table", "keep": true, "train": ["NUAA-SIRST", "IRSTD-1k", "NUDT-SIRST"]}."""
import argparse, json
from types import SimpleNamespace

import torch

import lab, wide

SHORT = {'IRSTD-1k': 'irstd', 'NUDT-SIRST': 'nudt', 'NUAA-SIRST': 'nuaa'}

class Others:
    "Orders of the images that are not left out: one permutation after another, cut into epochs of all windows."
    def __init__(self, ids, length): self.ids, self.length = ids, length

    def __call__(self, n, seed, epoch):
        k, m = len(self.ids), self.length
        first, last = epoch*m//k, ((epoch + 1)*m - 1)//k
        stream = [self.ids[i] for j in range(first, last + 1) for i in lab.epoch_order(k, seed, j)]
        return stream[epoch*m - first*k:][:m]

def compile_windows():
    "The cutting of windows compiled as well as the network."
    widen = wide.widen_step
    def widen_step(step, **how):
        widen(step, **how)
        step._batch = torch.compile(step._batch, dynamic=False)
    wide.widen_step = widen_step

def main(o, job, outs):
    b = lab.make_bench(o, job).ready()
    for out in outs:
        ids = [i for i, owner in enumerate(b.train.owners) if owner != out]
        b.windows.order, b.windows.coming = Others(ids, len(b.windows)*b.recipe.batch_size), (None, None)
        b.job = dict(job, name=f'{job["name"]}-not-{SHORT[out]}', train=[s for s in job['train'] if s != out])
        with torch.cuda.stream(torch.cuda.Stream()):
            for seed in job['seeds']: b.end(seed, dict(b.run(seed, job['lr'], job['steps']), images=len(ids)))

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('job'); p.add_argument('--outs', default=','.join(SHORT))
    p.add_argument('--data', default='runs/lab/data'); p.add_argument('--out', default='runs/lab/out')
    a = p.parse_args()
    compile_windows()
    with open(a.job) as f: main(SimpleNamespace(data=a.data, out=a.out, device='cuda', tiny=0), json.load(f), a.outs.split(','))
