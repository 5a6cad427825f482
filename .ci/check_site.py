"""Look at every page of the built site as a reader would: in a browser, on a desk and on a telephone.

    python .ci/check_site.py [_docs]

Without a browser: links and anchors between pages, and that no page is an orphan. With Chromium: every page loads
with nothing in the console and no request that fails, every equation is typeset, every image has pixels, widgets are drawn,
the page is not wider than the screen, the menus open, the search finds. Exit status 1 and one line for each fault."""
import argparse, functools, http.server, os, re, shutil, subprocess, sys, threading, time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urldefrag, urlparse

from lxml import html

FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()
WIDTHS = {'desk': (1280, 900), 'telephone': (390, 844)}
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')

def check_links(site):
    "Links and anchors between pages, without a browser: the faults, how many links there are, and the pages."
    files = {p.relative_to(site).as_posix() for p in site.rglob('*')}
    pages = {name: html.parse(site/name).getroot() for name in sorted(files) if name.endswith('.html')}
    anchors = {name: {*page.xpath('//@id | //@name'), ''} for name, page in pages.items()}
    faults, links, reached = [], 0, {'index.html', 'genindex.html', 'search.html', 'py-modindex.html'}
    for name, page in pages.items():
        for tag, attr in (('a', 'href'), ('img', 'src'), ('script', 'src'), ('link', 'href')):
            for url in page.xpath(f'//{tag}/@{attr}'):
                if not url or urlparse(url).scheme or url.startswith('//'): continue
                links += 1
                path, anchor = urldefrag(url)
                other = normpath(join(dirname(name), unquote(path.split('?')[0]))) if path else name
                if other not in files:
                    faults.append(f'{name}: dead link {url}')
                    continue
                if tag == 'a' and other != name: reached.add(other)
                if other in anchors and unquote(anchor) not in anchors[other]: faults.append(f'{name}: no such anchor {url}')
        ids = Counter(page.xpath('//@id'))
        faults += [f'{name}: the id {i} occurs {n} times' for i, n in ids.items() if n > 1]
    faults += [f'{name}: no link leads here' for name in pages if name not in reached and not name.startswith('_modules')]
    return faults, links, list(pages)

def find_browser():
    "A Chromium: one that is here, or Debian's if this is a machine where we may install it."
    for b in BROWSERS:
        if shutil.which(b): return shutil.which(b)
    if os.environ.get('CI') and shutil.which('apt-get') and hasattr(os, 'geteuid') and os.geteuid() == 0:
        for command in (['apt-get', 'update', '-qq'], ['apt-get', 'install', '-y', '-qq', 'chromium']):
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode: return None
        return shutil.which('chromium')

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass
    def end_headers(self):
        self.send_header('Cache-Control', 'max-age=3600')   # scripts, fonts and styles are the same for every page
        super().end_headers()

def serve(site):
    "The site under http://127.0.0.1:PORT"
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f'http://127.0.0.1:{server.server_port}'

SETTLE = '''async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise
    await document.fonts.ready
    await Promise.all([...document.images].map(i => { i.loading = 'eager'; return i.decode().catch(() => {}) }))
}'''

LOOK = '''() => {
    const text = e => e.textContent.trim().slice(0, 60), out = []
    for (const m of document.querySelectorAll('article .math'))
        if (m.matches('div, span') && !m.querySelector('mjx-container')) out.push('equation not typeset: ' + text(m))
    for (const m of document.querySelectorAll('mjx-merror, [data-mjx-error]')) out.push('error in equation: ' + text(m))
    for (const i of document.images) if (!(i.naturalWidth > 0 && i.naturalHeight > 0)) out.push('image without pixels: ' + i.src)
    const doc = document.documentElement
    if (doc.scrollWidth > innerWidth + 1) {
        const inside = e => { for (let p = e.parentElement; p; p = p.parentElement) if (getComputedStyle(p).overflowX != 'visible') return true; return false }
        const wide = [...document.querySelectorAll('article *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !inside(e))
        out.push(`${doc.scrollWidth} px wide on a screen of ${innerWidth}: ` + wide.slice(0, 2).map(e => e.outerHTML.slice(0, 80)).join(' | '))
    }
    const states = document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length
    const drawn = document.querySelectorAll('.jupyter-widgets').length
    if (states && !drawn) out.push(`${states} widgets, none drawn`)
    if (!document.title || !document.querySelector('h1, #search-results')) out.push('no title')
    return {faults: out, equations: document.querySelectorAll('article mjx-container').length, images: document.images.length, widgets: states}
}'''

def check_pages(site, names, browser):
    "Every page, in as many browsers as there are processors (at most four): the faults, and what was seen."
    parts = [names[i::n] for n in [min(4, os.cpu_count() or 1)] for i in range(n)]
    with ProcessPoolExecutor(len(parts), get_context('spawn')) as pool:
        done = list(pool.map(look_at, *zip(*((site, part, browser, part is parts[0]) for part in parts))))
    return [f for faults, _ in done for f in faults], sum((seen for _, seen in done), Counter())

def look_at(site, names, browser, menus):
    "These pages in one browser, at every width, and the menus if wanted: the faults, and what was seen."
    from playwright.sync_api import sync_playwright
    address, faults, seen, now = serve(site), [], Counter(), ['', '']
    local = (site/'_static'/'mathjax').is_dir()
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser, args=FLAGS)
        page = chromium.new_page()
        report = lambda text: faults.append(f'{" at ".join(now)}: {text}')
        page.on('console', lambda m: report(f'console {m.type}: {m.text[:200]}'))
        page.on('pageerror', lambda e: report(f'script error: {str(e)[:200]}'))
        # a page is left as soon as it has been looked at; the browser then drops the icon that it was still fetching
        dropped = lambda r: r.failure == 'net::ERR_ABORTED' and r.url.endswith('/favicon.svg')
        page.on('requestfailed', lambda r: dropped(r) or report(f'request failed: {r.url}, {r.failure}'))
        page.on('response', lambda r: r.status >= 400 and report(f'{r.status}: {r.url}'))
        if local: page.on('request', lambda r: r.url.startswith(('http', 'ws')) and not r.url.startswith(address) and report(f'leaves the site: {r.url}'))
        def turn(width):
            if now[1] == width: return
            w, h = WIDTHS[width]
            now[1] = width
            page.set_viewport_size(dict(width=w, height=h))
        widths = list(WIDTHS)
        for name in names:
            now[0] = name
            turn(widths[0])
            show(page, f'{address}/{name}', report)   # loaded once, then looked at in the other width too
            for width in widths:
                turn(width)
                looked = page.evaluate(LOOK)
                for f in looked['faults']: report(f)
            seen.update({k: v for k, v in looked.items() if k != 'faults'} | {'pages': 1})
            widths.reverse()   # the next page begins in the width in which this one ended: a long page takes its time to turn
        now[0] = 'index.html'
        for width in WIDTHS if menus else ():
            turn(width)
            check_menus(page, address, width, report)
        chromium.close()
    return faults, seen

def show(page, url, report):
    "A page, until its equations, images and widgets are there."
    page.goto(url, wait_until='load')
    page.evaluate(SETTLE)
    if page.query_selector('script[type="application/vnd.jupyter.widget-view+json"]'):
        try: page.wait_for_selector('.jupyter-widgets', timeout=10_000)
        except Exception: pass
    check_sliders(page, report)

def check_sliders(page, report):
    "A slider that is moved by the keyboard moves its picture, without Python."
    handles = page.locator('.jupyter-widgets .noUi-handle')
    look = lambda: page.eval_on_selector_all('.jupyter-widgets img', 'all => all.filter(i => i.offsetParent).map(i => i.src).join()')
    if not handles.count(): return
    before = look()
    handles.first.focus()
    page.keyboard.press('ArrowRight')
    if not before: return
    end = time.monotonic() + 10
    while look() == before and time.monotonic() < end: page.wait_for_timeout(20)
    if look() == before: report('a slider moves nothing')

def check_menus(page, address, width, report):
    "The contents can be reached, and the search finds."
    page.goto(f'{address}/index.html')
    page.evaluate(SETTLE)
    inside = lambda sel: page.eval_on_selector(sel, 'e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.left >= 0 && r.right <= innerWidth }')
    if width == 'telephone':
        page.locator('.mobile-header label.nav-overlay-icon, .mobile-header .nav-overlay-icon').first.click()
        page.wait_for_timeout(500)
    if not inside('.sidebar-tree'): return report('the list of pages cannot be reached')
    page.locator('.sidebar-tree a.reference.internal').first.click()
    page.wait_for_load_state('load')
    if page.url.split('#')[0] == f'{address}/index.html': report('a click in the list of pages leads nowhere')
    if width == 'telephone':
        page.goto(f'{address}/index.html')
        page.locator('.mobile-header .toc-overlay-icon').first.click()
        page.wait_for_timeout(500)
        if not inside('.toc-tree'): report('the contents of the page cannot be reached')
    for query, expected in (('selective scan', '01_selective_scan.html'), ('find_targets', 'api/mim_istd.detection.detector.html')):
        page.goto(f'{address}/search.html?q={query.replace(" ", "+")}')
        try: page.wait_for_selector('#search-results li a', timeout=15_000)
        except Exception: report(f'the search for {query!r} finds nothing'); continue
        page.wait_for_timeout(300)
        if not any(expected in (a.get_attribute('href') or '') for a in page.query_selector_all('#search-results li a')):
            report(f'the search for {query!r} does not find {expected}')

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('site', nargs='?', type=Path, default=Path('_docs'))
    args = parser.parse_args()
    if not (args.site/'index.html').exists(): sys.exit(f'{args.site} holds no site: run `make site` first')
    start = time.monotonic()
    faults, links, names = check_links(args.site)
    print(f'{len(names)} pages, {links} links between them')
    browser = find_browser()
    if browser:
        more, seen = check_pages(args.site, names, browser)
        faults += more
        print(f"in {Path(browser).name}, at {' and '.join(f'{w} px' for w, _ in WIDTHS.values())}: " + ', '.join(f'{n} {k}' for k, n in seen.items()) + f'; {time.monotonic() - start:.0f} s')
    else: print('skipped: no Chromium here, so equations, images, console and widths were not looked at')
    for f in dict.fromkeys(faults): print(f, file=sys.stderr)
    if faults: sys.exit(f'{len(set(faults))} faults')

if __name__ == '__main__': main()
