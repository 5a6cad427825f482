"""The reference pages: what every public name of the library takes, gives and means.

Read from the source files, not from imported modules, so that the pages come out the same on a machine
without a GPU, without Triton, without PyTorch. Parameters are documented as everywhere in this
project: by the comment behind each of them."""
import ast, io, json, re, textwrap, tokenize
from dataclasses import dataclass, field
from pathlib import Path

CELL = re.compile(r'^# %% (?:\.\./)+nbs/(\S+)\.ipynb #(\w+)$', re.M)

@dataclass
class Entry:
    "One public name."
    name: str
    kind: str                       # function, class, method, property, data
    line: int                       # first line in the module's file
    end: int                        # last line
    doc: str = ''
    signature: str = ''
    params: list = field(default_factory=list)     # (name, type, what)
    returns: tuple = ('', '')                      # (type, what)
    members: list = field(default_factory=list)    # methods and properties of a class
    chapter: str = ''               # notebook that exports it, without its suffix
    cell: str = ''                  # … the id of its cell

@dataclass
class Module:
    "A module of the library: its public names, in the order in which the chapter builds them."
    name: str
    path: Path
    doc: str
    chapter: str
    entries: list
    source: str

    def all_entries(self):
        "(full name in the module, entry), members of classes included."
        for e in self.entries:
            yield e.name, e
            for m in e.members: yield f'{e.name}.{m.name}', m

def comments(source):
    "line number -> comment; whether it stands alone on its line"
    found = {}
    for t in tokenize.generate_tokens(io.StringIO(source).readline):
        if t.type == tokenize.COMMENT: found[t.start[0]] = (t.string.lstrip('#').strip(), not t.line[:t.start[1]].strip())
    return found

def comment_of(first, last, notes):
    "The comment behind lines first…last, or those standing alone right above."
    if last in notes and not notes[last][1]: return notes[last][0]
    above, line = [], first - 1
    while line in notes and notes[line][1]: above.insert(0, notes[line][0]); line -= 1
    return ' '.join(above)

def parameters(f, notes, method):
    "Signature as text, and (name, type, what) of each documented parameter."
    a, shown, params = f.args, [], []
    positional = a.posonlyargs + a.args
    defaults = [None]*(len(positional) - len(a.defaults)) + a.defaults
    rows = [('', p, d) for p, d in zip(positional, defaults)]
    if method and rows: rows = rows[1:]
    if a.vararg: rows.append(('*', a.vararg, None))
    elif a.kwonlyargs: rows.append(None)
    rows += [('', p, d) for p, d in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg: rows.append(('**', a.kwarg, None))
    for row in rows:
        if row is None: shown.append('*'); continue
        star, p, default = row
        kind = ast.unparse(p.annotation) if p.annotation else ''
        text = star + p.arg + (f': {kind}' if kind else '')
        if default is not None: text += (' = ' if kind else '=') + ast.unparse(default)
        shown.append(text)
        last = max(p.end_lineno, default.end_lineno if default is not None else 0)
        if last != f.lineno or len(rows) == 1: params.append((star + p.arg, kind, comment_of(p.lineno, last, notes)))
        else: params.append((star + p.arg, kind, ''))
    return shown, params

def returned(f, notes):
    "Type and meaning of what comes back: the annotation, and the comment behind the closing bracket."
    kind = ast.unparse(f.returns) if f.returns else ''
    last_arg = max([n.end_lineno for n in ast.walk(f.args) if hasattr(n, 'end_lineno')], default=f.lineno)
    for line in range(f.body[0].lineno - 1, last_arg, -1):
        if line in notes and not notes[line][1]: return kind, notes[line][0]
    return kind, ''

def decorated(node, name):
    "Is there a decorator of this name?"
    return any(ast.unparse(d).split('(')[0].split('.')[-1] == name for d in node.decorator_list)

def as_function(f, notes, method=False, kind=None):
    shown, params = parameters(f, notes, method and not decorated(f, 'staticmethod'))
    kind = kind or ('method' if method else 'function')
    start = min([d.lineno for d in f.decorator_list] + [f.lineno])
    out = returned(f, notes)
    return Entry(f.name, kind, start, f.end_lineno, ast.get_docstring(f) or '',
                 f"({', '.join(shown)})" + (f' -> {out[0]}' if out[0] else ''), params, out)

def is_public(name): return not name.startswith('_') or name in ('__call__', '__len__', '__getitem__', '__add__', '__iter__')

def as_property(f): return any(ast.unparse(d) in ('property', 'cached_property', 'functools.cached_property', 'patch(as_prop=True)') for d in f.decorator_list)

def as_class(c, notes):
    start = min([d.lineno for d in c.decorator_list] + [c.lineno])
    e = Entry(c.name, 'class', start, c.end_lineno, ast.get_docstring(c) or '')
    shown = []
    for n in c.body:
        if isinstance(n, ast.FunctionDef) and n.name == '__init__':
            init = as_function(n, notes, method=True)
            e.signature, e.params = init.signature.split(' -> ')[0], init.params
        elif isinstance(n, ast.FunctionDef) and is_public(n.name):
            e.members.append(as_function(n, notes, True, 'property' if as_property(n) else None))
        elif isinstance(n, ast.AnnAssign) and decorated(c, 'dataclass') and is_public(n.target.id):
            kind = ast.unparse(n.annotation)
            e.params.append((n.target.id, kind, comment_of(n.lineno, n.end_lineno, notes)))
            shown.append(f'{n.target.id}: {kind}' + (f' = {ast.unparse(n.value)}' if n.value else ''))
    if shown: e.signature = f"({', '.join(shown)})"
    return e

def statements(body):
    "The statements of a module, those inside of if and try too."
    for n in body:
        if isinstance(n, (ast.If, ast.Try, ast.With)):
            for part in ('body', 'orelse', 'handlers', 'finalbody'):
                for m in getattr(n, part, []): yield from statements(m.body if isinstance(m, ast.ExceptHandler) else [m])
        else: yield n

def read_module(path, name):
    "Everything that one file of the library makes public."
    source = path.read_text(encoding='utf-8')
    tree, notes = ast.parse(source), comments(source)
    found, patches, public = {}, [], None
    for n in statements(tree.body):
        if isinstance(n, ast.FunctionDef):
            if decorated(n, 'patch'): patches.append(n)
            else: found.setdefault(n.name, as_function(n, notes))
        elif isinstance(n, ast.ClassDef): found.setdefault(n.name, as_class(n, notes))
        elif isinstance(n, (ast.Assign, ast.AnnAssign)):
            for t in n.targets if isinstance(n, ast.Assign) else [n.target]:
                for leaf in t.elts if isinstance(t, ast.Tuple) else [t]:
                    if not isinstance(leaf, ast.Name): continue
                    if leaf.id == '__all__': public = ast.literal_eval(n.value)
                    else: found.setdefault(leaf.id, as_data(leaf.id, n, t is leaf, notes))
    for f in patches:
        owner = found.get(ast.unparse(f.args.args[0].annotation).strip('\'"'))
        if owner is None: continue
        if f.name == '__init__': owner.signature, owner.params = (e := as_function(f, notes, True)).signature, e.params
        elif is_public(f.name): owner.members.append(as_function(f, notes, True, 'property' if as_property(f) else None))
    public = public if public is not None else [n for n in found if not n.startswith('_')]
    missing = [n for n in public if n not in found]
    if missing: raise ValueError(f'{path} makes {missing} public, but no statement of it defines them')
    entries = sorted((found[n] for n in public), key=lambda e: e.line)
    cells = [(source.count('\n', 0, m.start()) + 1, *m.groups()) for m in CELL.finditer(source)]
    for e in entries:
        for x in (e, *e.members):
            for line, chapter, cell in cells:
                if line <= x.line: x.chapter, x.cell = chapter, cell
    return Module(name, path, ast.get_docstring(tree) or '', cells[0][1] if cells else '', entries, source)

def as_data(name, node, whole, notes):
    value = ast.unparse(node.value) if whole and node.value else ''
    e = Entry(name, 'data', node.lineno, node.end_lineno, comment_of(node.lineno, node.end_lineno, notes))
    if value and len(value) <= 160: e.signature = value
    return e

def read_library(root, package):
    "All modules, as name -> Module."
    out = {}
    for path in sorted((root/package).rglob('*.py')):
        if path.name.startswith('_'): continue
        name = '.'.join(path.relative_to(root).with_suffix('').parts)
        out[name] = read_module(path, name)
    return out

# --- pages ---

def escape(text):
    "Text as Markdown that shows it as it is; what stands between backticks stays code."
    parts = re.split(r'(`[^`]*`)', text)
    return ''.join(p if i % 2 else re.sub(r'([\\*_<>\[\]{}|$~^])', r'\\\1', p) for i, p in enumerate(parts))

def paragraphs(doc):
    "A docstring as Markdown."
    blocks = re.split(r'\n\s*\n', textwrap.dedent(doc).strip())
    return '\n\n'.join(b if b.startswith('    ') else escape(b) for b in blocks)

def directive(e, owner, level, titles):
    "One public name and its members, as a directive of Sphinx's Python domain."
    fence = ':' * (5 - level)
    head = e.name + (e.signature if e.kind not in ('data', 'property') else '')
    lines = [f'{fence}{{py:{e.kind}}} {head}']
    if e.kind == 'data' and e.signature: lines.append(f':value: {json.dumps(e.signature, ensure_ascii=False)}')
    if e.kind == 'property' and e.returns[0]: lines.append(f':type: {e.returns[0]}')
    lines.append('')
    if e.doc: lines += [paragraphs(e.doc), '']
    rows = []
    documented = any(what for _, _, what in e.params)
    for name, kind, what in e.params if documented else []:
        shown = name.replace('*', r'\*')
        rows.append(f':param {shown}: {escape(what)}')
        if kind: rows.append(f':type {shown}: {kind}')
    kind, what = e.returns
    if e.kind != 'property' and (what or kind not in ('', 'None')):
        rows.append(':returns: ' + ' – '.join(filter(None, (f'*{escape(kind)}*' if kind else '', escape(what)))))
    if rows: lines += rows + ['']
    if e.chapter and not owner: lines += [f'Built in {{ref}}`{titles[e.chapter]} <cell-{e.cell}>`', '']
    for m in e.members: lines += [directive(m, e, level + 1, titles), '']
    return '\n'.join(lines + [fence])

def module_page(m, titles):
    "The Markdown page of one module."
    chapters = list(dict.fromkeys([m.chapter] + [e.chapter for e in m.entries]))
    built = ', '.join(f'[{titles[c]}](../{c}.ipynb)' for c in chapters if c in titles)
    parts = [f'# {m.name}', f'> {escape(m.doc)}' if m.doc else '', f'Built in: {built}' if built else '',
             f':::{{py:module}} {m.name}\n:no-index-entry:\n:::']
    return '\n\n'.join(p for p in parts + [directive(e, None, 1, titles) for e in m.entries] if p) + '\n'

def tags(m):
    "What `sphinx.ext.viewcode` wants: the source, and where each name stands in it."
    kinds = dict(function='def', method='def', property='def')
    return m.source, {name: (kinds.get(e.kind, e.kind if e.kind == 'class' else 'other'), e.line, e.end) for name, e in m.all_entries()}
