#!/usr/bin/env python
"""Feed damaged files to the readers. A seeded mutation fuzzer: whatever the file, a reader gives frames or raises one of our errors,
within seconds and within memory.

  python .ci/fuzz_readers.py --seconds 600 --seed 0 --json nbs/workshop/logs/fuzz_readers.json

Exit status 1 if anything else happened; the files that did it are kept in --keep.
"""
import argparse, collections, io, json, logging, resource, signal, struct, sys, tempfile, time, traceback, warnings, zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from mim_istd.data.reading import DataError, read_image
from mim_istd.data.masks import read_mask
from mim_istd.data.sets import image_statistics
from mim_istd.data.frames import parse_raw, read_frames

SECONDS, MEMORY = 30, 4 * 2**30   # of the processor, for one image of up to MAX_PIXELS; bytes


def seeds():
    "Small whole files of every format: name -> bytes."
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 2**14, (24, 31)).astype(np.uint16)
    flat, colour, files = (deep >> 6).astype(np.uint8), rng.integers(0, 255, (24, 31, 3)).astype(np.uint8), {}
    def pillow(name, a, **kw):
        out = io.BytesIO()
        im = Image.fromarray(a)
        (im.convert(kw.pop('mode')) if 'mode' in kw else im).save(out, name.split('.')[-1].upper().replace('PGM', 'PPM').replace('TIF', 'TIFF').replace('JPG', 'JPEG'), **kw)
        files[name] = out.getvalue()
    def tiff(name, a, **kw):
        out = io.BytesIO()
        tifffile.imwrite(out, a, **kw)
        files[name] = out.getvalue()
    pillow('grey.png', flat); pillow('deep.png', deep); pillow('colour.png', colour); pillow('palette.png', colour, mode='P'); pillow('bit.png', flat, mode='1')
    pillow('grey.bmp', flat); pillow('colour.bmp', colour); pillow('grey.jpg', flat); pillow('cmyk.jpg', colour, mode='CMYK'); pillow('progressive.jpg', colour, progressive=True)
    pillow('grey.gif', flat); pillow('grey.pgm', flat); pillow('lossy.webp', colour); pillow('exact.webp', colour, lossless=True)
    for s in ('gif', 'png', 'webp'): pillow(f'film.{s}', colour, save_all=True, append_images=[Image.fromarray(255 - colour)] * 2, duration=40)
    for c in ('tiff_lzw', 'tiff_adobe_deflate', 'packbits'): pillow(f'{c}.tif', deep, compression=c)
    pillow('group4.tif', flat, mode='1', compression='group4'); pillow('jpeg.tif', colour, compression='jpeg')
    tiff('deep.tif', deep); tiff('float.tif', deep.astype(np.float32)); tiff('zlib.tif', deep, compression='zlib', predictor=True); tiff('tiles.tif', deep, tile=(16, 16))
    tiff('stack.tif', np.stack([deep] * 3), photometric='minisblack'); tiff('planes.tif', np.moveaxis(colour, -1, 0).copy(), photometric='rgb', planarconfig='separate'); tiff('big.tif', deep, bigtiff=True)
    tiff('imagej.tif', np.stack([deep] * 3), imagej=True)
    files['14bit.pgm'] = b'P5\n31 24\n16383\n' + deep.astype('>u2').tobytes()
    head = struct.pack('>IIBBBBB', 31, 24, 16, 2, 0, 0, 0)
    rows = b''.join(bytes([y % 5]) + rng.integers(0, 255, 6*31).astype(np.uint8).tobytes() for y in range(24))
    files['colour16.png'] = b'\x89PNG\r\n\x1a\n' + b''.join(struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d)) for k, d in ((b'IHDR', head), (b'IDAT', zlib.compress(rows)), (b'IEND', b'')))
    for name, a in (('deep.npy', deep), ('stack.npy', np.stack([deep] * 3)), ('double.npy', deep.astype(float)), ('fortran.npy', np.asfortranarray(deep))):
        out = io.BytesIO(); np.save(out, a); files[name] = out.getvalue()
    files['cam.raw'] = bytes(7) + deep.tobytes()
    try:
        import av
        for name, codec, pixels in (('film.mkv', 'ffv1', 'gray16le'), ('film.mp4', 'mpeg4', 'yuv420p'), ('film.avi', 'mjpeg', 'yuvj420p')):
            out = io.BytesIO()
            with av.open(out, 'w', format={'mkv': 'matroska'}.get(name[-3:], name[-3:])) as film:
                stream = film.add_stream(codec, rate=25)
                stream.width, stream.height, stream.pix_fmt = 32, 24, pixels
                for _ in range(3): film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(np.pad(flat, ((0, 0), (0, 1)))), format='gray')))
                film.mux(stream.encode())
            files[name] = out.getvalue()
    except ImportError: pass
    return files


def png_chunks(data):
    "A PNG with its checksums made right again, so that damage gets past them."
    pos, out = 8, [data[:8]]
    while pos + 8 <= len(data):
        size, = struct.unpack('>I', data[pos:pos+4])
        body = data[pos+4:pos+8+min(size, len(data))]
        out.append(data[pos:pos+4] + body + struct.pack('>I', zlib.crc32(body)))
        pos += 12 + size
    return b''.join(out)


INTERESTING = [0, 1, 2, 255, 0x7f, 0x80, 0xffff, 0x7fff, 0x7fffffff, 0xffffffff, 0x80000000, 16384, 65536]


def mutate(data, other, rng):
    "A damaged copy."
    data = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4, 16]))):
        if not data: break
        # headers are short and matter most
        at = int(rng.integers(len(data)) if rng.random() < .5 else rng.integers(min(len(data), 64)))
        kind = rng.integers(9)
        if kind == 0: data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1: data[at] = int(rng.integers(256))
        elif kind in (2, 3):
            value, n = INTERESTING[rng.integers(len(INTERESTING))], int(rng.choice([1, 2, 4]))
            data[at:at+n] = (value & (256**n - 1)).to_bytes(n, 'little' if rng.random() < .5 else 'big')
        elif kind == 4: del data[at:]
        elif kind == 5: del data[at:at + int(rng.integers(1, 64))]
        elif kind == 6: data[at:at] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == 7: data[at:at] = data[at:at + int(rng.integers(1, 256))]
        else:
            cut = int(rng.integers(len(other) + 1))
            data[at:] = other[cut:]
    data = bytes(data)
    return png_chunks(data) if data[:4] == b'\x89PNG' and rng.random() < .7 else data


class TooLong(BaseException): "An image took longer than it may. No reader catches it, as it would an error."


def too_long(*_): raise TooLong(f'more than {SECONDS} s')


def limit(seconds=SECONDS):
    "So many seconds of the processor, which do not depend on what else it does; ten times as many by the clock. 0: no limit."
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(10*seconds)


def read(path):
    "Everything that is read from files; frames are limited, since a damaged header may promise many."
    raw = parse_raw('31x24xuint16', offset=7) if path.suffix == '.raw' else None
    limit()
    for frame, _ in zip(read_frames(path, raw), range(8)):
        limit()
        if frame.image.ndim != 2 or frame.image.size == 0: raise AssertionError(f'a frame of shape {frame.image.shape}')
        if frame.image.size < 2**22:
            try: image_statistics(frame.image)
            except ValueError as e:
                if 'No finite pixel' not in str(e): raise
    if raw is None and path.suffix not in ('.mkv', '.mp4', '.avi'):
        limit()
        a = read_image(path)
        if a.ndim != 2 or a.dtype != np.float32: raise AssertionError(f'an image of shape {a.shape}, {a.dtype}')
        limit()
        if a.size < 2**22: read_mask(path, 'mask>0')


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--seconds', type=float, default=10)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--json', help='write counts and findings there')
    p.add_argument('--keep', help='folder for files that were a finding')
    args = p.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter('ignore')
    # a reader that asks for more memory than this gets an error, not the machine's memory
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for number in (signal.SIGALRM, signal.SIGPROF): signal.signal(number, too_long)
    files, rng, counts, findings = seeds(), np.random.default_rng(args.seed), collections.Counter(), {}
    names = sorted(files)
    begin, cases, slowest = time.monotonic(), 0, 0.
    with tempfile.TemporaryDirectory() as tmp:
        while time.monotonic() - begin < args.seconds:
            name = names[cases % len(names)]
            data = mutate(files[name], files[names[rng.integers(len(names))]], rng) if cases >= len(names) else files[name]
            path = Path(tmp, name)
            path.write_bytes(data)
            started = time.monotonic()
            try:
                read(path)
                counts['read'] += 1
            except (DataError, FileNotFoundError) as e:
                counts['refused'] += 1
                # the whole seeds must be read; stacks are refused where one image is asked for
                if cases < len(names) and 'where one image is expected' not in str(e): findings.setdefault(f'{name}: whole, yet {e}', data)
            except BaseException as e:
                if isinstance(e, KeyboardInterrupt): raise
                where = traceback.extract_tb(e.__traceback__)[-1]
                findings.setdefault(f'{type(e).__name__}: {str(e)[:100]} ({Path(where.filename).name}:{where.name}) {path.suffix}', data)
            finally: limit(0)
            slowest = max(slowest, time.monotonic() - started)
            counts[path.suffix] += 1
            cases += 1
    result = dict(cases=cases, seconds=round(time.monotonic() - begin), seed=args.seed, read=counts['read'], refused=counts['refused'], slowest_seconds=round(slowest, 2),
                  by_suffix={k: v for k, v in sorted(counts.items()) if k[0] == '.'}, findings=sorted(findings))
    if args.keep and findings:
        Path(args.keep).mkdir(parents=True, exist_ok=True)
        for i, (what, data) in enumerate(findings.items()): Path(args.keep, f'{i}{what[-4:].strip(" ")}').write_bytes(data)
    if args.json: Path(args.json).write_text(json.dumps(result, indent=1) + '\n')
    print(f"{cases} files in {result['seconds']} s: {counts['read']} read, {counts['refused']} refused, {len(findings)} findings, slowest {slowest:.2f} s")
    for f in sorted(findings): print('  ' + f)
    return 1 if findings else 0


if __name__ == '__main__': sys.exit(main())
