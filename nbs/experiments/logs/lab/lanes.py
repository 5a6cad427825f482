"""Several trainings side by side on one GPU, windows compiled and channels innermost: `lanes.py JOBS.json --data … --out …`.

JOBS.json is a list of lanes, and a lane a list of jobs of `lab.py` that follow one another."""
import argparse
from pathlib import Path
from types import SimpleNamespace

import torch
import torch._inductor.config

import lab, leftout

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('jobs')
    p.add_argument('--data', default='runs/lab/data'); p.add_argument('--out', default='runs/lab/out')
    a = p.parse_args()
    torch._inductor.config.force_layout_optimization = True
    torch.set_num_threads(2)
    leftout.compile_windows()
    lab.lanes_of(SimpleNamespace(data=a.data, out=a.out, device='cuda', tiny=0), Path(a.jobs))
