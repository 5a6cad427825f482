"""Many short trainings by one recipe: `lab.py pack` lays the sets out, `lab.py work` takes jobs, `lab.py test` measures.

The arithmetic is that of `train()` with recipe `long`: AdamW with decay on matrices, one-cycle rate, dice + 5 bce over
all outputs, clipping at 1, EMA 0.998, bf16, prior 0.05. It differs in this: windows are cut on the GPU (the same
windows, bit for bit), AdamW is the fused one, and dropout draws other numbers."""
import argparse, copy, json, os, time, traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import nn

import candidates # registers networks that were tried
import wide
from mim_istd.data.sets import IRSTDataset, open_folder, split_validation
from mim_istd.measure.metrics import Counts, count_image, summarize
from mim_istd.model.network import get_model
from mim_istd.training.losses import SupervisedLoss, first_output, set_prior
from mim_istd.training.on_gpu import ImagesOnDevice, WholeStep, WindowsOnDevice, capturable_optimizer
from mim_istd.training.recipe import SumLoss, epoch_order, get_recipe, parameter_groups, set_seeds

SETS = {'NUAA-SIRST': ('idx_427', 'trainval'), 'IRSTD-1k': ('isnet_official', 'trainval'),
        'NUDT-SIRST': ('basicirstd', 'train')}

def initial_state(job, seed, prior):
    set_seeds(seed)
    net = get_model(job['model'], **job.get('changes', {}))
    set_prior(net, prior, seed)
    return net, {k: v.clone() for k, v in net.state_dict().items()}

# ---- images
def names_of(sets_root, part, sets, tiny):
    "IRSTDatasets of one part: 'train', 'valid' (out of the training list), 'test'."
    found = []
    for s in sets:
        lists, split = SETS[s]
        folder = open_folder(sets_root/s)
        names = folder.names('test' if part == 'test' else split, lists)
        if part != 'test': names = split_validation(names, 0.1, 0)[part == 'valid']
        names = [n for n in names if n in folder.images]
        if tiny: names = names[:tiny]
        found.append(IRSTDataset(sets_root/s, names, lists, target='mask>127' if part == 'train' else 'mask==255'))
    return found

def _pack_part(args):
    root, part, s, names, tiny = args
    lists = SETS[s][0]
    d = IRSTDataset(root/s, names, lists, target='mask>127' if part == 'train' else 'mask==255')
    return part, s, names, ImagesOnDevice(d, 256 if not tiny else 64)

def _joined(parts, owners=None):
    "Several `ImagesOnDevice` as one."
    new, of = copy.copy(parts[0][3]), lambda k: [getattr(p[3], k) for p in parts]
    kind = torch.float32 if any(t.dtype == torch.float32 for t in of('pixels')) else torch.uint8
    first = np.cumsum([0] + [t.numel() for t in of('masks')])
    new.pixels = torch.cat([t.to(kind) for t in of('pixels')])
    new.first = torch.cat([t + int(f) for t, f in zip(of('first'), first)])
    for k in ('masks', 'sizes', 'statistics'): setattr(new, k, torch.cat(of(k)))
    new.shapes, new.centres = np.concatenate(of('shapes')), [c for cs in of('centres') for c in cs]
    new.owners = owners or [s for _, s, names, _ in parts for _ in names]
    new.names = [n for _, _, names, _ in parts for n in names]
    return new

def pack(o):
    "One file for each set and part, and `ready_SET` when all of a set are there."
    from concurrent.futures import ProcessPoolExecutor
    out, tasks = Path(o.data), []
    out.mkdir(parents=True, exist_ok=True)
    only = o.only.split(',') if o.only else list(SETS)
    for part in ('train', 'valid', 'test'):
        for s, d in zip(only, names_of(Path(o.sets), part, only, o.tiny)):
            tasks += [(Path(o.sets), part, s, d.names[k:k+40], o.tiny) for k in range(0, len(d.names), 40)]
    with ProcessPoolExecutor(12 if not o.tiny else 1) as pool: done = list(pool.map(_pack_part, tasks))
    for s in only:
        for part in ('train', 'valid', 'test'):
            images = _joined([p for p in done if p[0] == part and p[1] == s])
            torch.save(images, out/f'{s}_{part}.tmp'); os.replace(out/f'{s}_{part}.tmp', out/f'{s}_{part}.pt')
            print(s, part, len(images), images.pixels.dtype, images.pixels.numel(), flush=True)
        (out/f'ready_{s}').touch()

def load(o, part, sets, device):
    parts = [torch.load(Path(o.data)/f'{s}_{part}.pt', weights_only=False) for s in sets]
    return _joined([(part, None, p.names, p) for p in parts], owners=[w for p in parts for w in p.owners]).to(device)

# ---- figures
@torch.no_grad()
def figures(model, images, scale=1):
    "IoU, nIoU, Pd, Fa of each set, whole images one by one or in batches of one size, fp32; at another size if asked."
    model.eval()
    allow, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    counts = {s: Counts() for s in dict.fromkeys(images.owners)}
    groups = {}
    for i, shape in enumerate(images.shapes): groups.setdefault(tuple(shape), []).append(i)
    for shape, members in groups.items():
        most = max(1, int(2**21 // (shape[0]*shape[1]*scale**2))) # 8 images of 512 x 512
        for k in range(0, len(members), most):
            part = members[k:k+most]
            x, y = (torch.stack(t) for t in zip(*(images.whole(i) for i in part)))
            if scale != 1:
                again = lambda t: F.interpolate(t.float(), scale_factor=scale, mode='bilinear', antialias=scale < 1)
                x, y = again(x), (again(y) >= .5).float()
            p, y = (first_output(model(x)) > 0).cpu().numpy()[:, 0], (y > 0).cpu().numpy()[:, 0]
            for i, a, b in zip(part, p, y): counts[images.owners[i]] += count_image(a, b)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = allow, benchmark
    model.train()
    keep = ('IoU', 'nIoU', 'Pd', 'Fa', 'images', 'targets', 'found', 'components', 'false_components')
    return {s: {k: round(float(v), 8) for k, v in summarize(c).items() if k in keep} for s, c in counts.items()}

def score(f): return float(np.mean([(v['IoU'] + v['nIoU'])/2 for v in f.values()]))

# ---- one network, its graph, several trainings
class Bench:
    def __init__(self, o, job):
        self.o, self.job, self.device = o, job, torch.device(o.device)
        size, batch = (64, 4) if o.tiny else (256, 16)
        self.recipe = get_recipe('long', prior=0.05, size=size, batch_size=batch, **job.get('recipe', {}))
        self.train, self.valid = (load(o, part, job['train'], self.device) for part in ('train', 'valid'))
        net, _ = initial_state(job, 0, self.recipe.prior)
        self.model = net.to(self.device).train()
        self.windows = WindowsOnDevice(self.train, self.recipe, epoch_order)
        optimizer = capturable_optimizer(parameter_groups(self.model, self.recipe), self.recipe, self.device)
        loss = SupervisedLoss(SumLoss(self.recipe.loss), getattr(net, 'supervision', ()))
        t = time.time()
        self.step = WholeStep(self.model, loss, self.windows, optimizer, job['steps'],
                              compiled=job.get('compiled', True) and self.device.type == 'cuda')
        if job.get('aug'): wide.widen_step(self.step, **wide.WIDE[job['aug']])
        self.windows.set_epoch(0)
        for place, new in zip(self.step.plan, self.windows.plan().tensors()): place.copy_(new)
        if self.device.type == 'cuda': self.step.record()
        self.record_s = time.time() - t

    def look(self, test):
        "Figures of the average's weights on the validation part and the test lists, in the middle of a training."
        self.step.swap()
        found = dict(valid=figures(self.model, self.valid), test=figures(self.model, test))
        self.step.swap()
        return found

    def run(self, seed, lr, steps):
        recipe = self.recipe = self.windows.recipe = self.step.recipe = replace(self.recipe, lr=lr, seed=seed)
        _, state = initial_state(self.job, seed, recipe.prior)
        from mim_istd.training import on_gpu
        room = len(self.step.lr)
        for table, new in ((self.step.lr, on_gpu._rates(recipe, steps)), (self.step.blend, on_gpu._blends(recipe, steps))):
            table[:steps].copy_(new)
        self.step.restart(state)
        torch.cuda.synchronize() if self.device.type == 'cuda' else None
        t, n = time.time(), len(self.windows)
        every, curve, aside = self.job.get('every'), [], 0.
        test = load(self.o, 'test', self.job['test'], self.device) if every else None
        for epoch in range(-(-steps // n)):
            set_seeds(seed, epoch, 0)
            self.step.run_epoch(epoch, min(n, steps - epoch*n))
            if every and (epoch + 1) % every == 0:
                torch.cuda.synchronize() if self.device.type == 'cuda' else None
                began = time.time()
                curve.append(dict(epoch=epoch + 1, **self.look(test)))
                aside += time.time() - began
        losses = self.step.losses[:steps].cpu().numpy()
        seconds = time.time() - t - aside
        self.step.swap()
        result = dict(name=self.job['name'], model=self.job['model'], train=self.job['train'], aug=self.job.get('aug', 'plain'), changes=self.job.get('changes', {}), lr=lr,
                      seed=seed, steps=steps, batch=recipe.batch_size, size=recipe.size, images=len(self.train),
                      parameters=sum(p.numel() for p in self.model.parameters()),
                      gpu=torch.cuda.get_device_name() if self.device.type == 'cuda' else 'cpu',
                      seconds=round(seconds, 2), steps_per_s=round(steps/seconds, 2), record_s=round(self.record_s, 1),
                      loss=[float(f'{v:.4g}') for v in losses.reshape(-1)[:steps//20*20].reshape(20, -1).mean(1)]
                      if steps >= 20 else losses.tolist(), finite=bool(np.isfinite(losses).all()))
        if result['finite']:
            t = time.time()
            result['valid'] = figures(self.model, self.valid)
            result['score'] = score(result['valid'])
            result['valid_s'] = round(time.time() - t, 2)
        else: result['score'] = 0.
        if curve: result.update(curve=curve, curve_s=round(aside, 1))
        return result

    def test(self):
        there = [s for s in self.job['test'] if (Path(self.o.data)/f'ready_{s}').exists()]
        return figures(self.model, load(self.o, 'test', there, self.device))

    def scales(self):
        "Figures of the test lists with images twice and half as large, and 1.4 times both ways."
        images = load(self.o, 'test', self.job['test'], self.device)
        return {f'{f:g}': figures(self.model, images, f) for f in (.5, .7071, 1.4142, 2)}

def write(o, result):
    with open(Path(o.out)/f'{result["name"]}.jsonl', 'a') as f: f.write(json.dumps(result) + '\n')
    print(time.strftime('%H:%M:%S'), result['name'], 'seed', result['seed'], 'lr', result['lr'], 'steps', result['steps'],
          f"{result['steps_per_s']}/s", f"{result['record_s']}s to record", f"score {result['score']:.4f}", flush=True)

def sound(bench, lr):
    "Whether a few steps give numbers."
    bench.step.lr[:8].fill_(lr/25)
    bench.step.restart(initial_state(bench.job, 0, bench.recipe.prior)[1])
    bench.step.run_epoch(0, min(8, len(bench.windows), bench.job['steps']))
    return bool(torch.isfinite(bench.step.losses[:8]).all())

def make_bench(o, job):
    "Compiled if that works and gives numbers, else as a plain graph."
    try:
        bench = Bench(o, job)
        if sound(bench, 0.003) or not job.get('compiled', True): return bench
        print(job['name'], 'compiled gives NaN', flush=True)
    except Exception as e:
        if not job.get('compiled', True): raise
        print(job['name'], 'compiled fails:', f'{type(e).__name__}: {e}'[:600], flush=True)
    job['compiled'] = False
    torch._dynamo.reset()
    return Bench(o, job)

def do(o, job):
    bench, lr = make_bench(o, job), job.get('lr', 0.003)
    for seed in job['seeds']:
        result = dict(bench.run(seed, lr, job['steps']), kind=job['kind'], compiled=job.get('compiled', True))
        if job.get('test') and result['finite']: result['test'] = bench.test()
        if job.get('scales') and result['finite']: result['scales'] = bench.scales()
        name = f'{job["name"]}_s{seed}'
        torch.save({k: v.half().cpu() if v.is_floating_point() and not job.get('keep') else v.cpu() for k, v in bench.model.state_dict().items()},
                   Path(o.out)/f'{name}.pt')
        write(o, result)
        if (Path(o.out)/'stop').exists(): return

def retest(o, job):
    "The missing sets' test lists for runs that were done before those sets were there."
    images, done = load(o, 'test', job['train'], torch.device(o.device)), set()
    until = time.time() + job.get('wait', 0)
    while time.time() < until or not done:
        for f in sorted(Path(o.out).glob('*.jsonl')):
            for row in map(json.loads, f.read_text().splitlines()):
                key = (row['name'], row['seed'])
                if key in done or 'test' not in row or set(job['train']) <= set(row['test']): continue
                net = get_model(row['model'], **row['changes'])
                net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in
                                     torch.load(Path(o.out)/f'{key[0]}_s{key[1]}.pt', weights_only=True).items()})
                result = dict(row, kind='retest', test=figures(net.to(o.device), images))
                with open(Path(o.out)/f'retest_{key[0]}_s{key[1]}.txt', 'w') as g: g.write(json.dumps(result) + '\n')
                done.add(key)
                print('retest', key, flush=True)
        time.sleep(2)
        if time.time() > until: return

def work(o):
    "Takes jobs, the first by name, until the file `stop` appears."
    out, folders = Path(o.out), [Path(j) for j in o.jobs.split(',')]
    out.mkdir(parents=True, exist_ok=True)
    for jobs in folders: (jobs/'taken').mkdir(exist_ok=True, parents=True)
    while not (out/'stop').exists():
        mine = None
        for p in (p for jobs in folders for p in sorted(jobs.glob('*.json'))):
            try: wanted = json.loads(p.read_text())
            except FileNotFoundError: continue
            if not all((Path(o.data)/f'ready_{s}').exists() for s in wanted['train']): continue
            try: mine = p.rename(p.parent/'taken'/p.name)
            except FileNotFoundError: continue
            break
        if mine is None:
            if o.once: return
            time.sleep(0.5); continue
        job = json.loads(mine.read_text())
        try: retest(o, job) if job['kind'] == 'retest' else do(o, job)
        except Exception as e:
            traceback.print_exc()
            write(o, dict(name=job['name'], seed=-1, lr=0, steps=0, steps_per_s=0, record_s=0, score=0, kind='failed',
                          error=f'{type(e).__name__}: {e}'[:500]))
        torch.cuda.empty_cache() if torch.cuda.is_available() else None
        torch._dynamo.reset()

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('what', choices=('pack', 'work')); p.add_argument('names', nargs='*')
    p.add_argument('--sets', default='data/real'); p.add_argument('--data', default='runs/lab/data')
    p.add_argument('--out', default='runs/lab/out'); p.add_argument('--jobs', default='runs/lab/jobs')
    p.add_argument('--device', default='cuda'); p.add_argument('--tiny', type=int, default=0)
    p.add_argument('--only', default=''); p.add_argument('--once', action='store_true')
    o = p.parse_args()
    torch.set_num_threads(2)
    dict(pack=pack, work=work)[o.what](o)
