"""Use the page of `mim-istd serve` as a person would, in a headless Chromium.

    python .ci/browser_serve.py [--screenshot FILE]

Starts the command, drops an image and a film on the page, sees pictures and tables, moves the threshold, drops a file that is no image
and reads the one line. Exit status 1 and one line for each fault; without Chromium or gradio it says so and exits with 0."""
import argparse, importlib.util, os, re, subprocess, sys, tempfile
from pathlib import Path

from PIL import Image

from check_site import FLAGS, find_browser
from mim_istd import Detector
from mim_istd.data.examples import example_images

def start():
    "The command, and the address that it prints."
    env = os.environ | dict(PYTHONUNBUFFERED='1', GRADIO_ANALYTICS_ENABLED='False')
    server = subprocess.Popen([sys.executable, '-m', 'mim_istd.cli', 'serve'], stdout=subprocess.PIPE, text=True, env=env)
    return server, re.search(r'http://127\.0\.0\.1:\d+', server.stdout.readline())[0]

def drop(page, path):
    "A new file on the page, whether there was one before or not."
    if page.get_by_label('Clear').count(): page.get_by_label('Clear').first.click()
    page.locator('input[type=file]').first.set_input_files(path)

def look(page, folder, faults, screenshot):
    image = example_images()[0]
    expected = len(Detector()(image))
    drop(page, image)
    page.get_by_text(f'{expected} target', exact=False).first.wait_for()
    page.get_by_role('gridcell').first.wait_for()
    page.wait_for_function("[...document.images].some(i => i.src.includes('/file=') && i.naturalWidth > 100)")
    if screenshot: page.screenshot(path=screenshot, full_page=True)
    for ending in ('.csv', '.json'):
        if not page.get_by_text(ending, exact=False).count(): faults.append(f'no {ending} to save')
    stack = Path(folder)/'three.tif'
    frames = [Image.open(image)]*3
    frames[0].save(stack, save_all=True, append_images=frames[1:])
    drop(page, stack)
    page.get_by_text('in 3 frames', exact=False).first.wait_for()
    letter = Path(folder)/'letter.png'
    letter.write_text('Dear all,')
    drop(page, letter)
    page.get_by_text('letter.png', exact=False).and_(page.locator('.toast-body *, .toast-text')).first.wait_for()

def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--screenshot')
    args, browser = parser.parse_args(), find_browser()
    if not browser or not importlib.util.find_spec('gradio'): return print('no Chromium or no gradio here: the page was not tried')
    from playwright.sync_api import sync_playwright
    faults, (server, address) = [], start()
    try:
        with sync_playwright() as p, tempfile.TemporaryDirectory() as folder:
            chromium = p.chromium.launch(executable_path=browser, args=FLAGS)
            page = chromium.new_page(viewport=dict(width=1280, height=900))
            page.set_default_timeout(60_000)
            page.on('pageerror', lambda e: faults.append(f'script error: {str(e)[:200]}'))
            page.on('request', lambda r: r.url.startswith('http') and not r.url.startswith(address) and faults.append(f'leaves the machine: {r.url}'))
            page.goto(address)
            look(page, folder, faults, args.screenshot)
            chromium.close()
    finally:
        server.terminate()
        server.wait(20)
    for f in faults: print(f, file=sys.stderr)
    if faults: sys.exit(1)
    print('the page of mim-istd serve: an image, a stack, a file that is none')

if __name__ == '__main__': main()
