"""Use the widgets as a reader would: the chapter on widgets in JupyterLab, in a headless Chromium.

    python .ci/browser_widgets.py [--screenshots FOLDER]

Opens the notebook, runs all of it, moves a slider of each explorer and sees its picture change, uploads a 16-bit TIFF, an array and a
file that is no image, sees the targets and the one line, saves the JSON; nothing may go wrong in the console or in a cell.
Exit status 1 and one line for each fault; without Chromium it says so and exits with 0."""
import argparse, io, json, os, re, socket, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from check_site import FLAGS, find_browser
from mim_istd.data.examples import example_images
from mim_istd.data.reading import read_image
from mim_istd.detection.detector import Detector

ROOT, NOTEBOOK, PATIENCE = Path(__file__).resolve().parents[1], 'widgets.ipynb', 60_000
# what JupyterLab itself says, whatever the notebook. A view waits 2 s for its model, complains, and draws itself when the model comes, which on a
# busy machine happens; one that stays away says 'Error displaying widget' on the page, and that is looked for
HARMLESS = re.compile(r'favicon|widget model not found|DevTools|ResizeObserver|service-?worker|Download the React|registered as Plugin|deprecat', re.I)

def start_server(folder):
    "JupyterLab on a free port, with settings of its own: (process, address)."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = os.environ | dict(PYTHONPATH=str(ROOT), PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    env |= {f'JUPYTER_{k}_DIR': str(folder/k.lower()) for k in ('CONFIG', 'DATA', 'RUNTIME')} | dict(JUPYTERLAB_SETTINGS_DIR=str(folder/'settings'), JUPYTERLAB_WORKSPACES_DIR=str(folder/'workspaces'), IPYTHONDIR=str(folder/'ipython'))
    flags = ['--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={port}', '--ServerApp.port_retries=0', '--IdentityProvider.token=', '--LabApp.news_url=',
             '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', f'--ServerApp.root_dir={folder/"nbs"}']
    log = open(folder/'server.log', 'w')
    return subprocess.Popen([sys.executable, '-m', 'jupyterlab', *flags], env=env, stdout=log, stderr=log), f'http://127.0.0.1:{port}'

def wait_for(address, process, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try: return urllib.request.urlopen(f'{address}/api/status', timeout=2).status
        except OSError: time.sleep(.3)
    sys.exit('JupyterLab did not start')

def prepare(folder):
    "A copy of the notebook without its outputs, the sample set beside it."
    (folder/'nbs').mkdir()
    nb = json.loads((ROOT/'nbs'/'workshop'/'draw'/NOTEBOOK).read_text(encoding='utf-8'))
    for c in nb['cells']:
        if c['cell_type'] == 'code': c |= dict(outputs=[], execution_count=None)
    (folder/'nbs'/NOTEBOOK).write_text(json.dumps(nb), encoding='utf-8')
    (folder/'nbs'/'data').symlink_to(ROOT/'data')

class Reader:
    "A page of JupyterLab, and what can be done with the explorers on it."
    def __init__(self, page, faults): self.page, self.faults = page, faults

    def open(self, address):
        page = self.page
        page.goto(f'{address}/lab/tree/{NOTEBOOK}')
        page.wait_for_selector('.jp-NotebookPanel .jp-Notebook', timeout=PATIENCE)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]', timeout=PATIENCE)
        page.wait_for_timeout(2000)   # the widgets' manager asks the new kernel what it has; a person is slower than that
        page.locator('.jp-Notebook .jp-Cell').first.click()
        page.get_by_role('menuitem', name='Run', exact=True).click()
        page.get_by_text('Run All Cells', exact=True).first.click()
        # a kernel that still runs cells answers no slider; on a busy machine that is longer than a picture is waited for
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=busy]', timeout=PATIENCE)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]', timeout=5*PATIENCE)

    def scroll_to(self, heading):
        "The notebook keeps cells that are far away out of the page: bring the one below a heading there."
        page = self.page
        for _ in range(60):
            found = page.locator('.jp-Notebook h2', has_text=heading)
            if found.count():
                found.first.scroll_into_view_if_needed()
                return page.wait_for_timeout(300)
            page.locator('.jp-WindowedPanel-outer').first.evaluate('e => e.scrollBy(0, 500)')
            page.wait_for_timeout(100)
        self.faults.append(f'the heading {heading!r} is not on the page')

    def explorer(self, label):
        "The cell output that has a control called `label`."
        page = self.page
        out = page.locator('.jp-OutputArea-output', has=page.locator(f'.widget-label:text-is("{label}")'))
        for _ in range(120):
            if out.count(): break
            page.locator('.jp-WindowedPanel-outer').first.evaluate('e => e.scrollBy(0, 250)')
            page.wait_for_timeout(150)
        out.first.wait_for(timeout=PATIENCE)
        out.first.scroll_into_view_if_needed()
        if page.get_by_text('Error displaying widget').count(): self.faults.append(f'a widget near {label!r} is not displayed')
        return out.first

    def changes(self, out, act, what):
        "Do something; the picture must become another one, drawn whole."
        image = out.locator('img.widget-image')
        for _ in range(2):   # while a page starts, JupyterLab may replace a widget under our hands: then once more
            image.scroll_into_view_if_needed()
            before = self.settled(image)
            act()
            try: self.page.wait_for_function('([e, s]) => e.src !== s && e.complete && e.naturalWidth > 300', arg=[image.element_handle(), before], timeout=20_000)
            except Exception: continue
            return print(f'  {what}: another picture')
        self.faults.append(f'{what}: the picture stayed the same')

    def settled(self, image):
        "Wait until the picture stays what it is, and which that is: the kernel may still be drawing what was asked for before."
        last, since = image.get_attribute('src'), time.monotonic()
        while time.monotonic() - since < .8:
            self.page.wait_for_timeout(100)
            now = image.get_attribute('src')
            if now != last: last, since = now, time.monotonic()
        return last

    def slide(self, out, label, key='ArrowRight', times=3):
        row = out.locator('.widget-inline-hbox', has=self.page.locator(f'.widget-label:text-is("{label}")'))
        handle, said = row.locator('.noUi-handle').first, row.locator('.widget-readout').first.text_content()
        def act():
            handle.focus()
            for _ in range(times): self.page.keyboard.press(key)
        self.changes(out, act, f'slider {label}')
        if row.locator('.widget-readout').first.text_content() == said: self.faults.append(f'slider {label}: its number stays at {said}')

    def choose(self, out, label, index):
        row = out.locator('.widget-inline-hbox', has=self.page.locator(f'.widget-label:text-is("{label}")'))
        self.changes(out, lambda: row.locator('select').select_option(index=index), f'choice of {label}')

def saved(write, a):
    out = io.BytesIO()
    write(out, a)
    return out.getvalue()

def use_panel(reader, out, faults, shots):
    "Uploads, the line that says what is wrong, the JSON."
    page, detector = reader.page, Detector()
    pixels = np.round(read_image(example_images()[1])*40 + 3000).astype(np.uint16)
    expected = detector(pixels)
    def upload(name, content):
        with page.expect_file_chooser() as chooser: out.locator('button.widget-upload').click()
        chooser.value.set_files(dict(name=name, mimeType='application/octet-stream', buffer=content))
    for name, write, a in (('sixteen.tiff', tifffile.imwrite, pixels), ('array.npy', np.save, np.flipud(pixels))):
        reader.changes(out, lambda: upload(name, saved(write, a)), f'upload of {name}')
        link = out.locator('a.mim-download')
        with page.expect_download() as got: link.click()
        result = json.loads(Path(got.value.path()).read_text(encoding='utf-8'))
        n, rows = len(detector(a)), out.locator('table.mim-targets tr').count() - 1
        if got.value.suggested_filename != Path(name).stem + '.json' or result['image'] != name: faults.append(f'{name}: the download is {got.value.suggested_filename} about {result["image"]}')
        if not n or len(result['targets']) != n or rows != n: faults.append(f'{name}: {n} targets, {rows} in the table, {len(result["targets"])} in the JSON')
        print(f'  {name}: {rows} targets, saved as {got.value.suggested_filename}')
        if name == 'sixteen.tiff' and result['targets'] != expected.to_dict()['targets']: faults.append('sixteen.tiff: other targets than the detector finds in it')
    if shots: page.screenshot(path=shots/'detector_panel.png')
    upload('notes.txt', b'not an image\n')
    line = out.locator('[role=alert]')
    line.wait_for(timeout=20_000)
    print(f'  notes.txt: {line.text_content()}')
    if 'notes.txt' not in line.text_content() or '\n' in line.text_content(): faults.append(f'notes.txt: {line.text_content()!r} is not one line that names the file')
    if shots: page.screenshot(path=shots/'detector_panel_error.png')

def use(page, address, shots):
    faults = []
    page.on('pageerror', lambda e: faults.append(f'script error: {str(e)[:200]}'))
    page.on('console', lambda m: m.type == 'error' and not HARMLESS.search(m.text) and faults.append(f'console: {m.text[:200]}'))
    reader = Reader(page, faults)
    reader.open(address)
    def shot(name):
        if not shots: return
        reader.settled(out.locator('img.widget-image'))
        page.screenshot(path=shots/f'{name}.png')

    reader.slide(reader.explorer('slope'), 'slope', 'ArrowLeft', 1)

    out = reader.explorer('direction')
    for label in ('step', 'Δ', 'rows'): reader.slide(out, label)
    reader.choose(out, 'direction', 1)
    reader.changes(out, lambda: out.locator('.widget-play button').first.click(), 'play')
    out.locator('.widget-play button').first.click()   # pause
    shot('scan_explorer')

    out = reader.explorer('protocol')
    reader.slide(out, 'threshold', 'ArrowLeft', 25)
    reader.choose(out, 'image', 1)
    shot('threshold_explorer')

    out = reader.explorer('part')
    reader.slide(out, 'channel')
    reader.choose(out, 'part', 2)
    reader.choose(out, 'image', 1)
    shot('model_explorer')

    use_panel(reader, reader.explorer('area ≥, px'), faults, shots)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]', timeout=PATIENCE)
    return faults

def cell_errors(address):
    "Errors and warnings of the cells, from the notebook as the server has it after a save."
    nb = json.load(urllib.request.urlopen(f'{address}/api/contents/{NOTEBOOK}'))['content']
    ran = [c for c in nb['cells'] if c['cell_type'] == 'code']
    outputs = [o for c in ran for o in c['outputs']]
    faults = [f'cell: {o["ename"]}: {o["evalue"][:200]}' for o in outputs if o['output_type'] == 'error']
    faults += [f'cell says: {"".join(o["text"])[:200]}' for o in outputs if o['output_type'] == 'stream' and o['name'] == 'stderr']
    if missing := sum(c['execution_count'] is None for c in ran): faults.append(f'{missing} cells did not run')
    both = [o for o in outputs if 'application/vnd.jupyter.widget-view+json' in o.get('data', {})]
    if len(both) < 4 or any('image/png' not in o['data'] for o in both): faults.append(f'{len(both)} widgets saved, not all with a picture for pages without a kernel')
    return faults

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--screenshots', type=Path, help='folder for pictures of the page')
    shots = parser.parse_args().screenshots
    if shots: shots.mkdir(parents=True, exist_ok=True)
    browser = find_browser()
    if not browser: return print('skipped: no Chromium here, so the widgets were not used in a browser')
    from playwright.sync_api import sync_playwright
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        folder = Path(folder)
        prepare(folder)
        server, address = start_server(folder)
        try:
            wait_for(address, server)
            chromium = p.chromium.launch(executable_path=browser, args=FLAGS)
            page = chromium.new_page(viewport=dict(width=1300, height=1000), accept_downloads=True)
            try:
                faults = use(page, address, shots)
                page.keyboard.press('Control+s')
                page.wait_for_timeout(1500)
                faults += cell_errors(address)
            except Exception as e:
                if shots: page.screenshot(path=shots/'fault.png')
                sys.exit(f'the browser test stopped: {str(e)[:600]}')
            finally: chromium.close()
        finally:
            server.terminate()
            try: server.wait(10)
            except subprocess.TimeoutExpired: server.kill()
    print(f'{NOTEBOOK} in JupyterLab in {Path(browser).name}: {time.monotonic() - start:.0f} s')
    for f in dict.fromkeys(faults): print(f, file=sys.stderr)
    if faults: sys.exit(f'{len(set(faults))} faults')

if __name__ == '__main__': main()
