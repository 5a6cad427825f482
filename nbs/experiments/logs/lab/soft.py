"""What several trained networks say of each training image, averaged, as 8 bits in a file beside the packed masks:

    soft.py PACKED DEVICE LOOKS NETWORK=WEIGHTS.pt ...

Logits are averaged over the networks and over LOOKS (1 to 8) mirrored and turned views; the probability is kept."""
import os, sys, time
from pathlib import Path

import torch

from mim_istd.model.network import get_model
from mim_istd.training.losses import first_output
import mim_istd.baselines.deep

SETS = 'NUAA-SIRST', 'NUDT-SIRST', 'IRSTD-1k'

def load_network(named, device):
    "The network of NETWORK=WEIGHTS.pt, for use."
    (name, _, mixer), weights = named.split('=')[0].partition(':'), named.split('=')[1]
    model = get_model(name, **dict(mixer=mixer) if mixer else {})
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in torch.load(weights, map_location='cpu').items()})
    return model.to(device).eval()

def look(t, k): return torch.rot90(t.flip(-1) if k >= 4 else t, k % 4, (-2, -1))
def unlook(t, k):
    t = torch.rot90(t, -(k % 4), (-2, -1))
    return t.flip(-1) if k >= 4 else t

def say(network, x, k):
    "Logits of the k-th look at images (B, 1, H, W)."
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda): return unlook(first_output(network(look(x, k))).float(), k)

@torch.inference_mode()
def soft(images, networks, looks, limit=None):
    "uint8 probabilities, laid out as the masks are."
    out, groups = torch.zeros_like(images.masks), {}
    for i, shape in enumerate(images.shapes[:limit]): groups.setdefault(tuple(shape), []).append(i)
    for (h, w), members in groups.items():
        most = max(1, 2**21//(h*w))
        for k in range(0, len(members), most):
            part = members[k:k+most]
            x = torch.stack([images.whole(i)[0] for i in part]).float()
            z = sum(say(n, x, v) for n in networks for v in range(looks))/len(networks)/looks
            for i, p in zip(part, (255*z.sigmoid()).round().to(torch.uint8)):
                first = int(images.first[i]); out[first:first + h*w] = p.reshape(-1)
    return out

if __name__ == '__main__':
    packed, device, looks = Path(sys.argv[1]), torch.device(sys.argv[2]), int(sys.argv[3])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    networks = [load_network(n, device) for n in sys.argv[4:]]
    print(time.strftime('%T'), len(networks), 'networks', flush=True)
    for s in SETS:
        while not (packed/f'ready_{s}').exists(): time.sleep(.2)
        images = torch.load(packed/f'{s}_train.pt', weights_only=False)
        images = images.to(device) if hasattr(images, 'to') else images
        p = soft(images, networks, looks)
        hard = images.masks > 0
        agree = float((p[hard] > 127).float().mean()), float(((p > 127) & ~hard).sum()/hard.sum())
        torch.save(p.cpu(), packed/f'soft_{s}.tmp'); os.replace(packed/f'soft_{s}.tmp', packed/f'soft_{s}.pt')
        print(time.strftime('%T'), s, len(images), 'of the mask found %.4f, added %.4f' % agree, flush=True)
