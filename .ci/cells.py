"""How much each notebook asks of its reader, as a table in Markdown.

    python .ci/cells.py [nbs/book/00_ssm.ipynb …]      all notebooks, or these

Code cells; lines of those that make the library (median, 90th percentile, longest), blank ones and directives not counted;
code lines of more than 120 characters; code cells on the page with no prose right before them. Hidden cells (`#| hide`) are
counted as cells, and are not on the page."""
import json, re, sys
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ('notebook', 'code cells', 'export cells', 'median', '90 %', 'longest', 'over 25', 'lines over 120', 'without prose')

def has(source, *names): return bool(re.search(rf'^#\|\s*({"|".join(names)})\b', source, re.M))

def lines(source): return [l for l in source.split('\n') if l.strip() and not l.startswith('#|')]

def measure(path):
    "The numbers of one notebook, in the order of `COLUMNS`, without its name."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    code, shown, bare = [], False, 0
    for c in cells:
        source = ''.join(c['source'])
        if c['cell_type'] == 'markdown': shown = True
        elif c['cell_type'] == 'code':
            code.append(source)
            if has(source, 'hide', 'default_exp'): continue   # not on the page: the prose before stands before the next cell
            bare += not shown
            shown = False
    export = [len(lines(s)) for s in code if has(s, 'exporti?')]
    spread = (median(export), quantiles(export, n=10, method='inclusive')[-1] if len(export) > 1 else export[0], max(export)) if export else (0, 0, 0)
    wide = sum(len(l) > 120 for s in code for l in s.split('\n'))
    return len(code), len(export), *(f'{v:g}' for v in spread), sum(n > 25 for n in export), wide, bare

def table(paths):
    "All of them, and their sum, as Markdown."
    name = lambda p: p.resolve().relative_to(ROOT/'nbs').with_suffix('').as_posix() if p.resolve().is_relative_to(ROOT/'nbs') else p.stem
    measured = [(name(p), *measure(p)) for p in paths]
    total = [sum(r[i] for r in measured) if isinstance(measured[0][i], int) else '' for i in range(1, len(COLUMNS))]
    rows = [COLUMNS, ('---',)*len(COLUMNS), *measured, ('all', *total)]
    return '\n'.join('| ' + ' | '.join(map(str, r)) + ' |' for r in rows)

if __name__ == '__main__':
    given = [Path(p) for p in sys.argv[1:]] or sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    print(table(given))
