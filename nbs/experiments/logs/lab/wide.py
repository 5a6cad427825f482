"""Windows for a detector that shall meet other sensors: other sizes, other contrasts, gamma, blur, noise,
stripes. All on the device,
with numbers from its generator, so that a recorded step draws new ones at every replay."""
import torch
import torch.nn.functional as F

def _uniform(B, low, high, device): return torch.rand(B, 1, 1, 1, device=device)*(high - low) + low
def _some(B, share, device): return torch.rand(B, 1, 1, 1, device=device) < share

def _sample(images, index, y, x):
    "Standardized pixels and the mask at real places (B, S, S), bilinear, mirrored beyond the borders."
    H, W = images.sizes[index][..., None, None].unbind(1)
    first = images.first[index][:, None, None]
    reflect = lambda at, n: torch.minimum(at % (2*n), 2*n - 1 - at % (2*n))
    y0, x0 = y.floor(), x.floor()
    fy, fx, image, mask = y - y0, x - x0, 0, 0
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            at = first + reflect(y0.long() + dy, H)*W + reflect(x0.long() + dx, W)
            image, mask = image + wy*wx*images.pixels[at].float(), mask + wy*wx*images.masks[at].float()
    return image, mask

def cut_scaled(images, index, rows, gain, scale):
    "As `cut_windows`, about the window's middle drawn `scale` (B,) times as far apart; scale 1 is the window itself."
    S, f = images.side, scale[:, None, None]
    i = torch.arange(S, device=rows.device, dtype=torch.float32) - (S - 1)/2
    a, b, c = rows.float()[..., None, None].unbind(2)
    places = lambda oy, ox: (a*(f[:, None]*(i[:, None] + oy) + (S - 1)/2) + b*(f[:, None]*(i + ox) + (S - 1)/2) + c).unbind(1)
    spread = ((f[:, None] - 1).clamp(min=0)/f[:, None])/4  # several looks where pixels are skipped
    image, mask = 0, 0
    for sy in (-1, 1):
        for sx in (-1, 1):
            y, x = places(sy*spread, sx*spread)
            p, m = _sample(images, index, y, x)
            image, mask = image + p/4, mask + m/4
    mean, std = images.statistics[index].float()[..., None, None].unbind(1)
    image = ((image - mean)/std).nan_to_num(0, 0, 0)
    factor, summand = gain[..., None, None].unbind(1)
    return (image*factor + summand)[:, None], (mask > 0.4).float()[:, None]

def blur(x, sigma):
    "Gaussian of `sigma` (B, 1, 1, 1) px, 5 taps, border repeated."
    taps = [torch.exp(-k*k/(2*sigma**2)) for k in range(3)]
    total = taps[0] + 2*taps[1] + 2*taps[2]
    for axis in (2, 3):
        pad = (0, 0, 2, 2) if axis == 2 else (2, 2, 0, 0)
        p, n = F.pad(x, pad, mode='replicate'), x.shape[axis]
        x = sum(taps[abs(k)]*p.narrow(axis, 2 + k, n) for k in range(-2, 3))/total
    return x

def photometric(x, share=1.):
    "Gamma, blur, noise and stripes, each in some images; `share` of how often."
    B, device = len(x), x.device
    low, high = x.amin((2, 3), True), x.amax((2, 3), True)
    room = (high - low).clamp(min=1e-3)
    g = torch.where(_some(B, .3*share, device), 2**_uniform(B, -.7, .7, device), torch.ones(B, 1, 1, 1, device=device))
    x = low + room*((x - low)/room).clamp(1e-4, 1)**g
    x = torch.where(_some(B, .25*share, device), blur(x, _uniform(B, .4, 1.1, device)), x)
    noise = torch.where(_some(B, .4*share, device), _uniform(B, 0, .3, device), 0)
    columns = torch.where(_some(B, .15*share, device), _uniform(B, 0, .25, device), 0)
    lines = torch.where(_some(B, .15*share, device), _uniform(B, 0, .25, device), 0)
    S = x.shape[-1]
    x = x + noise*torch.randn_like(x) + columns*torch.randn(B, 1, 1, S, device=device) + lines*torch.randn(B, 1, S, 1, device=device)
    return x/(1 + noise**2 + columns**2 + lines**2).sqrt()

def local_contrast(x, share, low=-2., high=.5):
    "In some images a contrast of up to a quarter and an offset, both changing smoothly over the window."
    B, S = len(x), x.shape[-1]
    smooth = lambda t: F.interpolate(t, (S, S), mode='bilinear', align_corners=True)
    grid = lambda: torch.rand(B, 1, 3, 3, device=x.device)
    field, offset = 2**smooth(grid()*(high - low) + low), smooth(grid()*2 - 1)
    return torch.where(_some(B, share, x.device), x*field + offset, x)

def widen_step(step, share=.5, octaves=1., photo=1., contrast=0.):
    "Makes a `WholeStep` see wide windows: `share` of them at another size, up to so many octaves away."
    def batch():
        B = step.recipe.batch_size
        at = (step.step % len(step.windows))*B + torch.arange(B, device=step.device)
        index, rows, gain = (t[at] for t in step.plan)
        scale = torch.where(torch.rand(B, device=step.device) < share, 2**((torch.rand(B, device=step.device)*2 - 1)*octaves), 1.)
        x, y = cut_scaled(step.windows.images, index, rows, gain, scale)
        x = photometric(x, photo) if photo else x
        return local_contrast(x, contrast) if contrast else x, y
    step._batch = batch

WIDE = dict(wide=dict(), mild=dict(share=.3, photo=.4), scale=dict(share=.4, photo=0.),
            local=dict(share=.4, photo=0., contrast=.5))
