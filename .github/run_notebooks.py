"""Run notebooks cell by cell, as `nbdev_test` does, where nbdev cannot be installed beside the oldest dependencies.

    python .github/run_notebooks.py nbs/book/00_ssm.ipynb nbs/tutorials/3_the_paper.ipynb

Cells with `#| slow`, `#| cuda`, `#| notest` or `#| eval: false` are left out. The first error ends the run."""
import os, re, subprocess, sys, time
from pathlib import Path

SKIP = re.compile(r'^#\|\s*(slow|cuda|notest|eval:\s*false)\b', re.M)

def run(path):
    "All cells of one notebook in this process, in the notebook's folder."
    import nbformat
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    os.environ.setdefault('MPLBACKEND', 'agg')
    os.chdir(path.parent)
    for cell in nbformat.read(path.name, 4).cells:
        if cell.cell_type == 'code' and not SKIP.search(cell.source): shell.run_cell(cell.source).raise_error()

if sys.argv[1] == '--one': run(Path(sys.argv[2]))
else:
    for name in sys.argv[1:]:
        start = time.monotonic()
        if subprocess.run([sys.executable, __file__, '--one', str(Path(name).resolve())], stdout=subprocess.DEVNULL).returncode: sys.exit(f'{name} failed')
        print(f'{name}: {time.monotonic() - start:.0f} s', flush=True)
