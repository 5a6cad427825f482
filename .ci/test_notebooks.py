"""Test notebooks as `nbdev_test` does, each in a process of its own, as many at once as there are cores (at most four).

    python .ci/test_notebooks.py [NOTEBOOK…] [--flags cuda] [--jobs 2]

Operators that a notebook registers, and a Triton that interprets, cannot be taken back: hence the processes. On Linux each is a copy
of this one, which has imported PyTorch and Matplotlib by then; that saves some five seconds a notebook."""
import os, sys, time
os.environ.setdefault('OMP_NUM_THREADS', '1') # one process a core: more threads would only wait for each other
import argparse, gc
from pathlib import Path

FORKS = sys.platform == 'linux' # the system libraries of macOS do not bear it
# they take the longest, so they begin; the others fill what is left
FIRST = ('cli', '03_ablations', 'runtime', 'onnx', '14_what_the_network_sees', '01_table_1', '11_training', 'efficiency', '2_my_data',
         '02_triton_scan', '06_equal_budget')

def order(path): return FIRST.index(path.stem) if path.stem in FIRST else len(FIRST), path

def all_notebooks():
    "Every notebook below nbs, without folders and files that begin with a dot or an underscore."
    return [p for p in Path('nbs').rglob('*.ipynb') if not any(part[0] in '._' for part in p.parts)]

def warm_up():
    "What nearly every notebook imports and no test looks at. Nothing that reads its settings when it is imported, as Triton does."
    import matplotlib.pyplot, nbdev.test, pandas, scipy.stats, sklearn.model_selection, torch # noqa: F401
    import torch.distributed.fsdp, torch.fx.experimental.symbolic_shapes # noqa: F401; half of the compiler, which optimizers import
    gc.freeze() # what is there now is no garbage; a collector that looks through all of it takes a quarter of a second each time

def start(path, flags, slower):
    "The process id of a notebook's test."
    if not FORKS:
        command = [str(Path(sys.executable).with_name('nbdev-test')), str(path), '--n-workers', '0', '--flags', flags,
                   '--cell-timing-min', str(slower)]
        return os.spawnv(os.P_NOWAIT, command[0], command)
    sys.stdout.flush()
    pid = os.fork()
    if pid: return pid
    from nbdev.test import nbdev_test
    nbdev_test(str(path), flags=flags, n_workers=0, cell_timing_min=slower) # ends the process if a test fails
    sys.exit()

def run(paths, flags, jobs, slower):
    "Tests all of them; those that failed."
    begin, waiting, running, failed = time.monotonic(), sorted(paths, key=order), {}, []
    while waiting or running:
        while waiting and len(running) < jobs:
            path = waiting.pop(0)
            running[start(path, flags, slower)] = path, time.monotonic()
        pid, status, used = os.wait3(0)
        path, since = running.pop(pid)
        if status: failed.append(path)
        print(f'{"FAILED" if status else "passed"} {path}: {time.monotonic() - since:.0f} s, '
              f'of a processor {used.ru_utime + used.ru_stime:.0f} s', flush=True)
    print(f'{len(paths)} notebooks, {len(failed)} failed, {(time.monotonic() - begin)/60:.1f} minutes', flush=True)
    return failed

if __name__ == '__main__':
    os.chdir(Path(__file__).resolve().parents[1])
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('notebooks', nargs='*', type=Path, help='relative to the repository; default: all')
    options.add_argument('--flags', default='', help='cells to run that are left out otherwise')
    options.add_argument('--jobs', type=int, default=min(4, os.cpu_count() or 1), help='how many at once')
    options.add_argument('--slower', type=float, default=10, help='seconds from which the time of a cell is printed')
    said = options.parse_args()
    if FORKS: warm_up()
    failed = run(said.notebooks or all_notebooks(), said.flags, said.jobs, said.slower)
    sys.exit(f'failed: {" ".join(map(str, failed))}' if failed else 0)
