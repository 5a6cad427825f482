"""Many short trainings by one recipe: `lab.py pack` lays the sets out, `lab.py work` takes jobs one by one,
`lab.py group` trains several copies of one network side by side, and `count.py` measures what they predicted.

The arithmetic is that of `train()` with recipe `long`: AdamW with decay on matrices, one-cycle rate, dice + 5 bce over
all outputs, clipping at 1, EMA 0.998, bf16, prior 0.05. It differs in this: windows are cut on the GPU (the same
windows, bit for bit), AdamW is the fused one, and dropout draws other numbers."""
import argparse, contextlib, copy, json, os, threading, time, traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo
import torch.nn.functional as F

import wide
from mim_istd.data.sets import IRSTDataset, open_folder, split_validation
from mim_istd.model.network import get_model
from mim_istd.training.losses import SupervisedLoss, first_output, set_prior
from mim_istd.training.on_gpu import WholeStep, capturable_optimizer
from mim_istd.training.recipe import SumLoss, get_recipe, parameter_groups
from mim_istd.training.windows import ImagesOnDevice, WindowsOnDevice

SETS = {'NUAA-SIRST': ('idx_427', 'trainval'), 'IRSTD-1k': ('isnet_official', 'trainval'),
        'NUDT-SIRST': ('basicirstd', 'train')}

# from mim_istd.training.loop, which needs fastai
def set_seeds(*key):
    a, b, c = (int(n) for n in np.random.SeedSequence(key).generate_state(3))
    import random
    random.seed(a), np.random.seed(b), torch.manual_seed(c)

def epoch_order(n, seed, epoch): return np.random.default_rng([seed, epoch, n, 1]).permutation(n).tolist()

def initial_state(job, seed, prior):
    set_seeds(seed)
    net = get_model(job['model'], **job.get('changes', {}))
    set_prior(net, prior, seed)
    return net, {k: v.clone() for k, v in net.state_dict().items()}

_graph = torch.cuda.graph
def graph_alone(graph, **how):
    "Each graph has its own cuBLAS workspace, so that several can run at once."
    torch._C._cuda_clearCublasWorkspaces()
    return _graph(graph, stream=torch.cuda.Stream(), **how)
torch.cuda.graph = graph_alone

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
            room = copy.copy(images)   # for `load`, beside this script, where the pixels come later
            room.count, room.pixels, room.masks = images.masks.numel(), None, None
            torch.save(room, out/f'meta_{s}_{part}.pt')
            print(s, part, len(images), images.pixels.dtype, images.pixels.numel(), flush=True)
        (out/f'ready_{s}').touch()

def load(o, part, sets, device):
    "Parts of sets, end to end; a set that has not arrived gets its room, and `fill` its pixels."
    parts, late, at = [], [], 0
    for s in sets:
        file = Path(o.data)/f'{s}_{part}.pt'
        if (Path(o.data)/f'ready_{s}').exists(): p = torch.load(file, weights_only=False)
        else:
            p = torch.load(Path(__file__).parent/f'meta_{s}_{part}.pt', weights_only=False)
            p.pixels, p.masks = torch.ones(p.count, dtype=torch.uint8), torch.zeros(p.count, dtype=torch.uint8)
            late.append((s, at))
        parts.append(p); at += p.masks.numel()
    joined = _joined([(part, None, p.names, p) for p in parts], owners=[w for p in parts for w in p.owners]).to(device)
    joined.late, joined.part = late, part
    return joined

def fill(o, images):
    "Waits for the pixels that were missing."
    for s, at in images.late:
        while not (Path(o.data)/f'ready_{s}').exists(): time.sleep(.2)
        p = torch.load(Path(o.data)/f'{s}_{images.part}.pt', weights_only=False)
        n = p.masks.numel()
        images.pixels[at:at+n].copy_(p.pixels); images.masks[at:at+n].copy_(p.masks)
    images.late = []
    return images

def fill_soft(o, images, sets):
    "Puts what other networks say of each image beside its mask."
    at = 0
    for s in sets:
        file = Path(o.data)/f'soft_{s}.pt'
        while not file.exists(): time.sleep(.2)
        p = torch.load(file); n = p.numel()
        images.soft[at:at+n].copy_(p); at += n

# ---- figures
_flags = threading.Lock()

@torch.no_grad()
def figures(model, images, scale=1, contrast=1):
    "Predicted masks of whole images in their order, fp32, as packed bits; at another scale the true ones too."
    model.eval()
    groups, bits, true = {}, {}, {}
    def predict(part, bits, true):
        x, y = (torch.stack(t) for t in zip(*(images.whole(i) for i in part)))
        if scale != 1:
            again = lambda t: F.interpolate(t.float(), scale_factor=scale, mode='bilinear', antialias=scale < 1)
            x, y = again(x), (again(y) >= .5).float()
        p = (first_output(model(contrast*x)) > 0).cpu().numpy()[:, 0]
        y = y.cpu().numpy()[:, 0] > 0 if scale != 1 else p
        for i, a, t in zip(part, p, y): bits[i], true[i] = a, t
    for i, shape in enumerate(images.shapes): groups.setdefault(tuple(shape), []).append(i)
    with _flags:
        for shape, members in groups.items():
            most = max(1, int(2**21 // (shape[0]*shape[1]*scale**2))) # 8 images of 512 x 512
            # where a size is rare, planning for it would take cuDNN longer than computing
            with torch.backends.cudnn.flags(enabled=len(members) > 16, benchmark=False, allow_tf32=False):
                for k in range(0, len(members), most): predict(members[k:k+most], bits, true)
    model.train()
    flat = lambda d: np.packbits(np.concatenate([d[i].ravel() for i in range(len(d))]))
    found = dict(bits=flat(bits), shapes=np.array([bits[i].shape for i in range(len(bits))], np.int32))
    return found | (dict(true=flat(true)) if scale != 1 else {})

def keep(o, name, seed, tag, **found):
    "The predictions in a file, to be counted elsewhere."
    arrays = {f'{k}_{j}': v for k, d in found.items() for j, v in d.items()}
    path = Path(o.out)/f'bits_{name}_s{seed}_{tag}.npz'
    with open(str(path) + '.tmp', 'wb') as f: np.savez_compressed(f, **arrays)
    os.replace(str(path) + '.tmp', path)

# ---- one network, its graph, several trainings
class Bench:
    def __init__(self, o, job):
        self.o, self.job, self.device = o, job, torch.device(o.device)
        size, batch = (64, 4) if o.tiny else (256, 16)
        self.recipe = get_recipe('long', prior=0.05, size=size, batch_size=batch, **job.get('recipe', {}))
        self.train, self.valid = (load(o, part, job['train'], self.device) for part in ('train', 'valid'))
        net, _ = initial_state(job, 0, self.recipe.prior)
        self.model = net.to(self.device).train()
        self.train.soft = torch.zeros_like(self.train.masks) if job.get('soft') else None
        self.windows = WindowsOnDevice(self.train, self.recipe, epoch_order)
        optimizer = capturable_optimizer(parameter_groups(self.model, self.recipe), self.recipe, self.device)
        loss = SupervisedLoss(SumLoss(self.recipe.loss), getattr(net, 'supervision', ()))
        t = time.time()
        self.step = WholeStep(self.model, loss, self.windows, optimizer, job['steps'],
                              compiled=job.get('compiled', True) and self.device.type == 'cuda')
        if job.get('aug'): wide.widen_step(self.step, **wide.WIDE[job['aug']], **dict(soft=job['soft']) if job.get('soft') else {})
        self.windows.set_epoch(0)
        for place, new in zip(self.step.plan, self.windows.plan().tensors()): place.copy_(new)
        if self.device.type == 'cuda': self.step.record()
        self.record_s = time.time() - t

    def run(self, seed, lr, steps):
        recipe = self.recipe = self.windows.recipe = self.step.recipe = replace(self.recipe, lr=lr, seed=seed)
        _, state = initial_state(self.job, seed, recipe.prior)
        from mim_istd.training import on_gpu
        for table, new in ((self.step.lr, on_gpu._rates(recipe, steps)), (self.step.blend, on_gpu._blends(recipe, steps))):
            table[:steps].copy_(new)
        self.step.restart(state)
        cuda, name = self.device.type == 'cuda', self.job['name']
        wait = lambda: torch.cuda.current_stream().synchronize() if cuda else None
        wait()
        t, n, every, aside = time.time(), len(self.windows), self.job.get('every'), 0.
        for epoch in range(-(-steps // n)):
            set_seeds(seed, epoch, 0)
            self.step.run_epoch(epoch, min(n, steps - epoch*n))
            if epoch % 8 == 7 or every and (epoch + 1) % every == 0: wait()
            if epoch % 8 == 7: (Path(self.o.out)/f'at_{name}_s{seed}.txt').write_text(f'{epoch + 1} epochs, {(epoch + 1)*n} steps, {time.time() - t:.0f} s\n')
            if every and (epoch + 1) % every == 0 and (epoch + 1)*n < steps:
                began = time.time()
                self.step.swap()
                keep(self.o, name, seed, f'e{epoch + 1}', valid=figures(self.model, self.valid), test=figures(self.model, self.load('test')))
                self.step.swap()
                wait()
                aside += time.time() - began
        losses = self.step.losses[:steps].cpu().numpy()
        seconds = time.time() - t - aside
        self.step.swap()
        result = dict(name=name, model=self.job['model'], train=self.job['train'], aug=self.job.get('aug', 'plain'), **dict(soft=self.job['soft']) if self.job.get('soft') else {}, changes=self.job.get('changes', {}), lr=lr,
                      seed=seed, steps=steps, batch=recipe.batch_size, size=recipe.size, images=len(self.train),
                      parameters=sum(p.numel() for p in self.model.parameters()),
                      gpu=torch.cuda.get_device_name() if cuda else 'cpu',
                      seconds=round(seconds, 2), steps_per_s=round(steps/seconds, 2), record_s=round(self.record_s, 1),
                      loss=[float(f'{v:.4g}') for v in losses.reshape(-1)[:steps//20*20].reshape(20, -1).mean(1)]
                      if steps >= 20 else losses.tolist(), finite=bool(np.isfinite(losses).all()), kind=self.job['kind'],
                      compiled=self.job.get('compiled', True))
        return dict(result, curve_s=round(aside, 1)) if every else result

    def load(self, part): return fill(self.o, load(self.o, part, self.job['test'], self.device))

    def ready(self):
        "Fills what was missing."
        fill(self.o, self.train), fill(self.o, self.valid)
        if self.job.get('soft'): fill_soft(self.o, self.train, self.job['train'])
        return self

    def end(self, seed, result):
        "Writes weights, the row and the predictions."
        o, name = self.o, self.job['name']
        torch.save({k: v.half().cpu() if v.is_floating_point() and not self.job.get('keep') else v.cpu() for k, v in self.model.state_dict().items()},
                   Path(o.out)/f'{name}_s{seed}.pt')
        write(o, result)
        if not result['finite']: return
        if self.job.get('left'): keep(o, name, seed, 'left', train=figures(self.model, fill(o, load(o, 'train', [self.job['left']], self.device))))
        if not self.job['test']: return
        keep(o, name, seed, 'end', valid=figures(self.model, self.valid), test=figures(self.model, self.load('test')))
        if self.job.get('scales'):
            test = self.load('test')
            for f in (.5, .7071, 1.4142, 2): keep(o, name, seed, f'x{f:g}', valid=figures(self.model, self.valid, f), test=figures(self.model, test, f))
        for c in self.job.get('contrasts', ()): keep(o, name, seed, f'c{c:g}', valid=figures(self.model, self.valid, contrast=c))

def write(o, result):
    with open(Path(o.out)/f'{result["name"]}.jsonl', 'a') as f: f.write(json.dumps(result) + '\n')
    print(time.strftime('%H:%M:%S'), result['name'], 'seed', result['seed'], 'lr', result['lr'], 'steps', result['steps'],
          f"{result['steps_per_s']}/s", f"{result['record_s']}s to record", flush=True)

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
    bench = make_bench(o, job).ready()
    for seed in job['seeds']: bench.end(seed, bench.run(seed, job.get('lr', 0.003), job['steps']))

def group(o):
    "Trainings of one network side by side in one process: lanes of jobs, each with a stream of its own; then JOBS.next."
    file = Path(o.jobs)
    lanes_of(o, file)
    while not (file.parent/'stop').exists():
        if (new := Path(str(file) + '.next')).exists():
            new = new.rename(file.parent/'lanes_taken.json')
            try: lanes_of(o, new)
            except Exception: traceback.print_exc()
        time.sleep(.3)

def fit_steps(benches, epochs=4):
    "The same number of steps for all, so many that they end together at LAB_END, seconds since 1970; measured side by side."
    def probe(b):
        with torch.cuda.stream(torch.cuda.Stream()):
            for epoch in range(-1, epochs):
                if epoch == 0: torch.cuda.current_stream().synchronize(); barrier.wait(); began.append(time.time())
                b.step.run_epoch(epoch + 1)
            torch.cuda.current_stream().synchronize()
            ended.append(time.time())
    began, ended, barrier = [], [], threading.Barrier(len(benches))
    for b in benches: b.step.restart(initial_state(b.job, 0, b.recipe.prior)[1])
    threads = [threading.Thread(target=probe, args=(b,)) for b in benches]
    for t in threads: t.start()
    for t in threads: t.join()
    rate = epochs*len(benches[0].windows)/(max(ended) - min(began))
    steps = int(rate*(float(os.environ['LAB_END']) - time.time())//1024*1024)
    print(time.strftime('%H:%M:%S'), f'{rate:.1f} steps/s in each of {len(benches)} lanes: {steps} steps', flush=True)
    for b in benches: b.job['steps'] = min(steps, b.job['steps'])

def lanes_of(o, file):
    "One round of lanes."
    began, lanes = time.time(), json.loads(file.read_text())
    benches = [[] for _ in lanes]
    for k in range(max(map(len, lanes))):
        for lane, jobs in zip(benches, lanes):
            if k < len(jobs) and (k == 0 or time.time() - began < 150):
                lane.append(make_bench(o, jobs[k]))
                print(time.strftime('%H:%M:%S'), 'recorded', jobs[k]['name'], round(lane[-1].record_s, 1), flush=True)
    for lane in benches:
        for b in lane: b.ready()
    fitted = [b for lane in benches for b in lane if b.job.get('fit')]
    if fitted: fit_steps(fitted)
    def run(lane):
        try:
            with torch.cuda.stream(torch.cuda.Stream()) if torch.cuda.is_available() else contextlib.nullcontext():
                for b in lane:
                    for seed in b.job['seeds']: b.end(seed, b.run(seed, b.job.get('lr', .003), b.job['steps']))
        except Exception: traceback.print_exc()
    torch.cuda.synchronize() if torch.cuda.is_available() else None
    threads = [threading.Thread(target=run, args=(lane,)) for lane in benches]
    for t in threads: t.start()
    for t in threads: t.join()

def work(o):
    "Takes jobs, the first by name, until the file `stop` appears."
    out, folders = Path(o.out), [Path(j) for j in o.jobs.split(',')]
    out.mkdir(parents=True, exist_ok=True)
    for jobs in folders: (jobs/'taken').mkdir(exist_ok=True, parents=True)
    while not (out/'stop').exists():
        mine = None
        for p in (p for jobs in folders for p in sorted(jobs.glob('*.json'))):
            try: mine = p.rename(p.parent/'taken'/p.name)
            except FileNotFoundError: continue
            break
        if mine is None:
            if o.once: return
            time.sleep(0.5); continue
        job = json.loads(mine.read_text())
        try: do(o, job)
        except Exception as e:
            traceback.print_exc()
            write(o, dict(name=job['name'], seed=-1, lr=0, steps=0, steps_per_s=0, record_s=0, score=0, kind='failed',
                          error=f'{type(e).__name__}: {e}'[:500]))
        torch.cuda.empty_cache() if torch.cuda.is_available() else None
        torch._dynamo.reset()

if __name__ == '__main__':
    p = argparse.ArgumentParser()
    p.add_argument('what', choices=('pack', 'work', 'group')); p.add_argument('names', nargs='*')
    p.add_argument('--sets', default='data/real'); p.add_argument('--data', default='runs/lab/data')
    p.add_argument('--out', default='runs/lab/out'); p.add_argument('--jobs', default='runs/lab/jobs')
    p.add_argument('--device', default='cuda'); p.add_argument('--tiny', type=int, default=0)
    p.add_argument('--only', default=''); p.add_argument('--once', action='store_true')
    o = p.parse_args()
    torch.set_num_threads(2)
    dict(pack=pack, work=work, group=group)[o.what](o)
