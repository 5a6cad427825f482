"""Windows for a detector that shall meet other sensors: other sizes, other contrasts, gamma, blur, noise,
stripes. All on the device,
with numbers from its generator, so that a recorded step draws new ones at every replay."""
import torch
import torch.nn.functional as F

def _uniform(B, low, high, device): return torch.rand(B, 1, 1, 1, device=device)*(high - low) + low
def _some(B, share, device): return torch.rand(B, 1, 1, 1, device=device) < share

def _sample(images, index, y, x, planes):
    "Planes such as pixels and masks at real places (B, S, S), bilinear, mirrored beyond the borders."
    H, W = images.sizes[index][..., None, None].unbind(1)
    first = images.first[index][:, None, None]
    reflect = lambda at, n: torch.minimum(at % (2*n), 2*n - 1 - at % (2*n))
    y0, x0 = y.floor(), x.floor()
    fy, fx, found = y - y0, x - x0, [0]*len(planes)
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            at = first + reflect(y0.long() + dy, H)*W + reflect(x0.long() + dx, W)
            found = [f + wy*wx*p[at].float() for f, p in zip(found, planes)]
    return found

def cut_scaled(images, index, rows, gain, scale, soft=0.):
    """As `cut_windows`, about the window's middle drawn `scale` (B,) times as far apart; scale 1 is the window itself.

    `soft` of the mask is what other networks say."""
    planes = [images.pixels, images.masks, *([images.soft] if soft else [])]
    S, f = images.side, scale[:, None, None]
    i = torch.arange(S, device=rows.device, dtype=torch.float32) - (S - 1)/2
    a, b, c = rows.float()[..., None, None].unbind(2)
    places = lambda oy, ox: (a*(f[:, None]*(i[:, None] + oy) + (S - 1)/2) + b*(f[:, None]*(i + ox) + (S - 1)/2) + c).unbind(1)
    spread = ((f[:, None] - 1).clamp(min=0)/f[:, None])/4  # several looks where pixels are skipped
    found = [0]*len(planes)
    for sy in (-1, 1):
        for sx in (-1, 1):
            y, x = places(sy*spread, sx*spread)
            found = [f + p/4 for f, p in zip(found, _sample(images, index, y, x, planes))]
    image, mask, *said = found
    mean, std = images.statistics[index].float()[..., None, None].unbind(1)
    image = ((image - mean)/std).nan_to_num(0, 0, 0)
    factor, summand = gain[..., None, None].unbind(1)
    mask = (mask > 0.4).float()
    if said: mask = mask + soft*(said[0]/255 - mask)
    return (image*factor + summand)[:, None], mask[:, None]

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

def _silhouettes(B, S, most, device):
    """Shapes (B, S, S) of `most` mirrored ellipses about random places: brightness 0 to 1, soft edges; and their sizes.

    A body, and pairs of ellipses on both sides of it, each with a brightness of its own: wings, rotors, or just a spot."""
    u = lambda *k: torch.rand(B, *k, device=device)
    reach = 1.2*2**(u(1, 1)*3.2)                                        # 1.2 to 11 px
    cy, cx = (8 + u(1, 1)*(S - 16) for _ in range(2))
    turn = u(1, 1)*torch.pi
    i = torch.arange(S, device=device, dtype=torch.float32)
    dy, dx = i[None, :, None] - cy, i[None, None] - cx
    along, across = dx*turn.cos() + dy*turn.sin(), (dy*turn.cos() - dx*turn.sin()).abs()   # mirrored at the body's axis
    shape = torch.zeros(B, S, S, device=device)
    for k in range(most):
        here = (u(1, 1) < (1. if k == 0 else .6)).float()
        a, b = reach*(.35 + .65*u(1, 1)), reach*(.12 + .5*u(1, 1)**2)
        a, b = a.clamp(min=.8), b.clamp(min=.7)
        oy, ox = (0., 0.) if k == 0 else (reach*u(1, 1)*.9, reach*(u(1, 1) - .5)*1.6)
        angle = torch.zeros_like(a) if k == 0 else u(1, 1)*torch.pi
        p, q = along - ox, across - oy
        p, q = p*angle.cos() + q*angle.sin(), q*angle.cos() - p*angle.sin()
        r = (p*p/(a*a) + q*q/(b*b)).sqrt()
        soft = torch.sigmoid((1 - r)*b.clamp(max=2.)*3.)                      # an edge of a pixel or so
        shape = torch.maximum(shape, here*(.65 + .35*u(1, 1))*soft)
    return shape, reach

def paste(x, y, share, most=4):
    "In some windows a made-up target: a small silhouette, as bright above its surroundings as these are uneven, or more."
    B, _, S, _ = x.shape
    shape, reach = _silhouettes(B, S, most, x.device)
    shape = blur(shape[:, None], _uniform(B, .4, 1., x.device))
    shape = shape/shape.amax((2, 3), True).clamp(min=1e-3)
    new = (shape > .45).float()
    near = (F.avg_pool2d(F.max_pool2d(new, 9, 1, 4), 3, 1, 1) > .5).float()      # the target and 4 px about it
    ring = (near - F.max_pool2d(new, 3, 1, 1)).clamp(min=0)
    n = ring.sum((2, 3), True).clamp(min=1)
    mean = (x*ring).sum((2, 3), True)/n
    std = ((x - mean)**2*ring).sum((2, 3), True).div(n).sqrt()
    height = std*2**_uniform(B, .4, 3., x.device) + .08*2**_uniform(B, 0., 3.5, x.device)
    flat = _uniform(B, 0., 1., x.device)                                     # how much it hides what is behind it
    pasted = x*(1 - flat*shape) + flat*shape*mean + height*shape
    size = new.sum((2, 3), True)
    free = ((F.max_pool2d(y, 13, 1, 6)*new).sum((2, 3), True) == 0) & (size >= 2) & (size < 160)
    use = (_some(B, share, x.device) & free).float()
    return x + use*(pasted - x), torch.maximum(y, use*new)

def distract(x, y, share):
    "In some windows what is no target: a large soft blob, a long bright line, or a straight edge."
    B, _, S, _ = x.shape
    device = x.device
    i = torch.arange(S, device=device, dtype=torch.float32)
    dy, dx = i[None, None, :, None] - _uniform(B, 0, S, device), i[None, None, None] - _uniform(B, 0, S, device)
    turn = _uniform(B, 0, torch.pi, device)
    along, across = dx*turn.cos() + dy*turn.sin(), dy*turn.cos() - dx*turn.sin()
    kind = _uniform(B, 0, 3, device)
    a, b = 14*2**_uniform(B, 0, 2, device), 14*2**_uniform(B, -.5, 1, device)
    blob = torch.sigmoid((1 - (along**2/a**2 + across**2/b**2).sqrt())*_uniform(B, 3, 30, device))
    line = torch.sigmoid((_uniform(B, .6, 3, device) - across.abs())*3)*torch.sigmoid((20*2**_uniform(B, 0, 3, device) - along.abs())*1.)
    edge = torch.sigmoid(across*_uniform(B, .5, 3, device))
    thing = torch.where(kind < 1, blob, torch.where(kind < 2, line, edge))
    thing = thing*(_uniform(B, .3, 2., device))*torch.where(_some(B, .25, device), -1., 1.)
    free = ((thing.abs() > .05)*y).sum((2, 3), True) == 0
    free = free | (kind >= 2)
    use = (_some(B, share, device) & free).float()
    return x + use*thing, y

def widen_step(step, share=.5, octaves=1., photo=1., contrast=0., pasted=0., pastes=1, things=0., soft=0.):
    "Makes a `WholeStep` see wide windows: `share` of them at another size, up to so many octaves away."
    def batch():
        B = step.recipe.batch_size
        at = (step.step % len(step.windows))*B + torch.arange(B, device=step.device)
        index, rows, gain = (t[at] for t in step.plan)
        scale = torch.where(torch.rand(B, device=step.device) < share, 2**((torch.rand(B, device=step.device)*2 - 1)*octaves), 1.)
        x, y = cut_scaled(step.windows.images, index, rows, gain, scale, soft)
        x = photometric(x, photo) if photo else x
        x = local_contrast(x, contrast) if contrast else x
        if things: x, y = distract(x, y, things)
        for _ in range(pastes if pasted else 0): x, y = paste(x, y, pasted)
        return x, y
    step._batch = batch

WIDE = dict(broad=dict(share=.5, octaves=1., photo=.25, contrast=.5), wide=dict(), mild=dict(share=.3, photo=.4), scale=dict(share=.4, photo=0.),
            local=dict(share=.4, photo=0., contrast=.5), shapes=dict(share=.4, photo=0., contrast=.5, pasted=.5),
            shapes2=dict(share=.4, photo=0., contrast=.5, pasted=.5, pastes=3),
            few=dict(share=.4, photo=0., contrast=.5, pasted=.15, pastes=1, things=.3),
            only=dict(share=.4, photo=0., contrast=.5, things=.4),
            things=dict(share=.4, photo=0., contrast=.5, pasted=.5, pastes=2, things=.3))
