"""Build the documentation site: the notebooks as pages, the reference from the library's sources, one landing page.

    python nbs/_site/build.py            writes _docs/

Nothing is executed: pages show the outputs that are stored in the notebooks. A new notebook is picked up by its name;
its title is its first heading. Chapters that are read in order have a number, the workshop's stand by package. Warnings are errors."""
import argparse, itertools, json, re, shutil, subprocess, sys, time
from configparser import ConfigParser
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell

here = Path(__file__).resolve().parent
root, nbs = here.parents[1], here.parent
sys.path.insert(0, str(here))
import api

settings = ConfigParser(delimiters=['='])
settings.read(root/'settings.ini', encoding='utf-8')
settings = settings['DEFAULT']

NPM = ('mathjax@3.2.2', 'requirejs@2.3.7', '@jupyter-widgets/html-manager@1.0.15')
PARTS = dict(tutorials='Tutorials', book='Book', workshop='Workshop', experiments='Experiments')   # folder: its name in the list
SHELVES = 'model kernels data training detection command export baselines measure draw'.split()   # folders of the workshop
KEEP_TAGS = ('remove-input', 'remove-output', 'remove-cell', 'hide-input', 'hide-output', 'hide-cell', 'output_scroll')

def pages():
    "The notebooks of the site, as paths without suffix relative to nbs/: those of each part in order, and those of no part."
    def of(part): return [p.relative_to(nbs).with_suffix('').as_posix() for p in (nbs/part).rglob('[!.]*.ipynb') if '.ipynb_checkpoints' not in p.parts]
    # in the workshop, the order of the packages is the way of an image: from the model and its kernels to what is drawn
    def place(name): return [SHELVES.index(f) if f in SHELVES else len(SHELVES) for f in name.split('/')[1:-1]], name
    parts = {part: sorted(of(part), key=place) for part in PARTS}
    return parts, sorted(p.stem for p in nbs.glob('*.ipynb') if not p.name.startswith('_'))

def read(name): return nbformat.read(nbs/f'{name}.ipynb', as_version=4)

def title(nb, name):
    "The first heading."
    for c in nb.cells:
        if c.cell_type == 'markdown' and (m := re.search(r'^# (.+)$', c.source, re.M)): return m[1].strip()
    raise ValueError(f'{name}.ipynb has no title: its first cell must start with "# ..."')

# --- text cells ---

problems = []   # dead links, reported all at once

FENCE = re.compile(r'(^```.*?^```\s*?$|\$\$.*?\$\$)', re.M | re.S)
LINK = re.compile(r'(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))')

def outside_code(f, text):
    "Apply `f` to what is neither in a code block nor in an equation."
    return ''.join(p if i % 2 else f(p) for i, p in enumerate(FENCE.split(text)))

def relink(text, name):
    "Links to files of the repository that are no pages of the site go to the repository."
    folder = (nbs/name).parent
    def target(m):
        path, anchor = m[1], m[2] or ''
        if re.match(r'\w+:', path): return m[0]
        full = (folder/path).resolve()
        if full == root/'data'/'README.md': return '../' * name.count('/') + 'data.md' + anchor
        if not full.exists() and full.suffix == '.ipynb': return m[0]   # Sphinx will say so
        if not full.exists(): problems.append(f'{name}.ipynb links to {path}, which does not exist')
        if full.is_relative_to(nbs) and (full.suffix == '.ipynb' or full.suffix in ('.png', '.jpg', '.svg', '.gif')): return m[0]
        return f"{settings['git_url']}/{'tree' if full.is_dir() else 'blob'}/{settings['branch']}/{full.relative_to(root)}{anchor}"
    return outside_code(lambda t: LINK.sub(target, t), text)

def tagged(text):
    "An equation with a number of its own is set as it stands; Sphinx would put its lines into an environment that allows no numbers."
    def keep(m):
        if '\\tag' not in m[1]: return m[0]
        return f'```{{math}}\n:nowrap: true\n\n\\begin{{equation}}\n{m[1].strip()}\n\\end{{equation}}\n```'
    return re.sub(r'^\$\$(.*?)\$\$[ \t]*$', keep, text, flags=re.M | re.S)

def known_names(nb, library):
    "name -> full name: what this notebook exports or imports from the library, and all names with their module before them."
    known = {}
    code = '\n'.join(c.source for c in nb.cells if c.cell_type == 'code')
    for m in re.finditer(r'^from (mim_istd(?:\.\w+)+) import \(?([\w, \n]+)', code, re.M):
        if m[1] in library:
            public = {e.name for e in library[m[1]].entries}
            known |= {n: f'{m[1]}.{n}' for n in re.findall(r'\w+', m[2]) if n in public}
    known |= {f'{m.name.split(".", 1)[1]}.{n}': f'{m.name}.{n}' for m in library.values() for n, _ in m.all_entries()}
    if m := re.search(r'^#\|\s*default_exp\s+(\S+)', code, re.M):
        own = f"{settings['lib_path']}.{m[1]}"
        if own in library: known |= {n: f'{own}.{n}' for n, e in library[own].all_entries()}
    return known

def doclinks(text, known):
    "`name` becomes a link to its reference, in running text."
    def line(t):
        if t.startswith('#'): return t
        return re.sub(r'(?<![\[`\w])`([A-Za-z_][\w.]*)(\(\))?`(?![`\]])', lambda m: f"{{py:obj}}`{m[1]}{m[2] or ''} <{known[m[1]]}>`" if m[1] in known else m[0], t)
    return outside_code(lambda t: '\n'.join(map(line, t.split('\n'))), text)

# --- notebooks ---

WIDGETS = 'application/vnd.jupyter.widget-view+json'

def still_shows(output, states):
    "Is there anything to show? A widget without its state in the notebook is not: what stands beside it, a picture or HTML, is shown instead."
    data = output.get('data', {})
    if WIDGETS in data and data[WIDGETS]['model_id'] not in states:
        if states: raise ValueError(f"the widget {data[WIDGETS]['model_id']} has no state among those that its notebook keeps: run the notebook and save it with its widgets")
        del data[WIDGETS]
        return data.keys() > {'text/plain'}
    return True

def convert(nb, name, library):
    "A notebook as Sphinx reads it: directives taken out, links made, cells that make the library marked."
    known, cells = known_names(nb, library), []
    targets = {e.cell for m in library.values() for _, e in m.all_entries()}
    states = nb.metadata.get('widgets', {}).get(WIDGETS.replace('view', 'state'), {}).get('state', {})
    for c in nb.cells:
        if c.cell_type == 'raw': continue
        if c.cell_type == 'markdown':
            c = new_markdown_cell(tagged(doclinks(relink(c.source, name), known)), id=c.id)
        else:
            told = dict(re.findall(r'^#\|\s*([\w-]+):?[ \t]*(.*)$', c.source, re.M))
            if 'hide' in told or told.keys() & {'default_exp', 'exporti', 'include', 'hide_input'} and 'export' not in told: continue
            c.source = re.sub(r'^#\|.*\n?', '', c.source, flags=re.M)
            if not c.source.strip() and not c.outputs: continue
            tags = [t for t in c.metadata.get('tags', []) if t in KEEP_TAGS]
            if told.get('echo') == 'false': tags.append('remove-input')
            if 'export' in told: tags.append('export')
            if c.id in targets: cells.append(new_markdown_cell(f'(cell-{c.id})=', id=f'at-{c.id}'))
            c.metadata, c.execution_count = {'tags': tags}, None
            c.outputs = [o for o in c.outputs if still_shows(o, states)]
            for o in c.outputs:
                if o.output_type == 'execute_result': o.execution_count = None
        cells.append(c)
    nb.cells = cells
    nb.metadata = {k: v for k, v in nb.metadata.items() if k in ('kernelspec', 'widgets')}
    return nb

def facts(name, library):
    "One line under a chapter's title: which file it is, what it makes."
    up = '../' * name.count('/')
    made = [m for m in library.values() if name in {m.chapter} | {e.chapter for e in m.entries}]
    line = f'Notebook {{download}}`{name.rsplit("/")[-1]}.ipynb <{up}_notebooks/{name}.ipynb>`'
    if made: line += ' · makes ' + ', '.join(f'[{m.name}]({up}api/{m.name}.md)' for m in made)
    return new_markdown_cell(f':::{{div}} chapter-facts\n{line}\n:::')

def toctree(caption, names, depth=1): return f':::{{toctree}}\n:hidden:\n:caption: {caption}\n:maxdepth: {depth}\n\n' + '\n'.join(names) + '\n:::'

def landing(nb, parts, titles):
    "The front page: the README's notebook, and below its picture a way on for each kind of reader."
    cards = (here/'readers.md').read_text(encoding='utf-8')
    at = next(i for i, c in enumerate(nb.cells) if c.cell_type == 'markdown' and '](images/' in c.source)
    picture, below = re.match(r'(.*?!\[[^]]*\]\([^)]*\)\s*(?:\*[^\n]*\*\s*)?)(.*)$', nb.cells[at].source, re.S).groups()
    nb.cells[at:at+1] = [new_markdown_cell(t) for t in (picture, cards, below) if t.strip()]
    def listed(n):
        number = re.match(r'[0-9]+', n.rsplit('/')[-1])
        return f'{int(number[0])} · {titles[n]} <{n}>' if number else f'{titles[n]} <{n}>'
    def captions(part, caption):
        "A part's list, or one for each package that its folders stand for"
        return {f'{caption} · {"/".join(shelf)}' if shelf else caption: list(names)
                for shelf, names in itertools.groupby(parts[part], lambda n: n.split('/')[1:-1])}
    trees = [toctree(c, [listed(n) for n in names]) for part, caption in PARTS.items() for c, names in captions(part, caption).items()]
    trees.append(toctree('Reference', ['glossary', 'contributing', 'data', 'api/index']))
    nb.cells.append(new_markdown_cell('\n\n'.join(trees)))
    return nb

def api_index(library):
    rows = '\n'.join(f'- [{m.name}]({m.name}.md) – {api.escape(m.doc)}' for m in library.values())
    names = '\n'.join(m.name for m in library.values())
    return f'# Library\n\n> Every public name of every module: what it takes, what it gives, where it is built.\n\n{rows}\n\n:::{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{names}\n:::\n'

# --- all of it ---

def assets(static, cache):
    "MathJax and the widgets' scripts beside the pages, if npm is here; otherwise pages take them from a CDN."
    shutil.copytree(here/'static', static, dirs_exist_ok=True)
    modules = cache/'node_modules'
    if not (modules/'@jupyter-widgets').is_dir():
        npm = shutil.which('npm')
        if not npm: return print('npm is not here: pages will load MathJax and the widgets from a CDN')
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([npm, 'install', '--silent', '--no-save', '--no-package-lock', '--ignore-scripts', '--prefix', str(cache), *NPM])
        if done.returncode: return print('npm could not fetch MathJax and the widgets: pages will load them from a CDN')
    es5 = modules/'mathjax'/'es5'
    for part in ('output/chtml', 'input/tex'): shutil.copytree(es5/part, static/'mathjax'/part, dirs_exist_ok=True)
    shutil.copy(es5/'tex-chtml.js', static/'mathjax')
    (static/'widgets').mkdir(exist_ok=True)
    shutil.copy(modules/'requirejs'/'require.js', static/'widgets')
    dist = modules/'@jupyter-widgets'/'html-manager'/'dist'
    for f in dist.glob('*.woff2'): shutil.copy(f, static/'widgets')
    # Ajv, in there, remarks in the console on a schema that is none of ours; `strictTypes` decides whether it does
    script = re.sub('"log"(?=,strictTuples)', 'false', (dist/'embed-amd.js').read_text(encoding='utf-8'))
    (static/'widgets'/'embed-amd.js').write_text(script, encoding='utf-8')

def write_sources(src):
    "All sources of the site, written to the folder `src`."
    library = api.read_library(root, settings['lib_path'])
    parts, others = pages()
    books = {n: read(n) for n in [*(n for names in parts.values() for n in names), *others]}
    titles = {n: title(nb, n) for n, nb in books.items()}
    for name, nb in books.items():
        nb = convert(nb, name, library)
        if name == 'index': nb = landing(nb, parts, titles)
        else: nb.cells.insert(1, facts(name, library))
        nb.nbformat, nb.nbformat_minor = 4, 5
        nbformat.validate(nb)
        for folder, save in ((src, lambda to: nbformat.write(nb, to)), (src/'_notebooks', lambda to: shutil.copy(nbs/f'{name}.ipynb', to))):
            (folder/name).parent.mkdir(parents=True, exist_ok=True)
            save(folder/f'{name}.ipynb')
    shutil.copytree(nbs/'images', src/'images')
    shutil.copy(root/'data'/'README.md', src/'data.md')
    (src/'api').mkdir()
    (src/'api'/'index.md').write_text(api_index(library), encoding='utf-8')
    for m in library.values(): (src/'api'/f'{m.name}.md').write_text(api.module_page(m, titles), encoding='utf-8')
    return len(books), len(library)

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('out', nargs='?', type=Path, default=root/settings['doc_path'])
    args = parser.parse_args()
    start, work = time.monotonic(), root/'_proc'
    src = work/'site'
    shutil.rmtree(src, ignore_errors=True)
    if args.out.exists():
        if not (args.out/'searchindex.js').exists() and any(args.out.iterdir()): sys.exit(f'{args.out} holds something else than an earlier site; give another folder')
        shutil.rmtree(args.out)
    src.mkdir(parents=True)
    assets(src/'_static', work/'assets')
    notebooks, modules = write_sources(src)
    html = work/'build'/'html'
    shutil.rmtree(html, ignore_errors=True)
    status = subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', '-c', str(here), '-d', str(work/'build'/'doctrees'),
                             '-E', str(src), str(html)]).returncode
    if html.is_dir(): shutil.move(html, args.out)
    for p in problems: print(p, file=sys.stderr)
    if status or problems: sys.exit('the site is built, with the faults above')
    print(f'{notebooks} notebooks and {modules} modules in {args.out}, {time.monotonic() - start:.0f} s: open {args.out}/index.html')

if __name__ == '__main__': main()
