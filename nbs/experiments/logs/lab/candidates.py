"""Networks with a pyramid of full resolution above MiM stages, as they were tried; `get_model('candidate', …)` builds one.

The one that was kept is `get_model('pyramid')` of the library. Runs of 'pyramid' whose changes name anything but its
mixer (nested, first_stride, stage, …) were of these."""
import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from mim_istd.model.layers import Residual, conv, residuals, resize
from mim_istd.model.block import ConvMixer, MiMBlock, image_to_words, replace_mixers
from mim_istd.model.network import MiM, SentenceMerge, WordMerge, register_model
from mim_istd.model.ss2d import VisualMamba


@dataclass(frozen=True)
class PyramidConfig:
    "What tells one network with a pyramid from another."
    in_channels: int = 1
    widths: tuple = (16, 32, 64)   # Channels at strides 1, 2, 4
    blocks: int = 1                # Residual blocks a node of the pyramid
    attention: bool = True         # Channel and spatial gates in every residual block
    nested: bool = False           # Dense nested nodes between the levels, as in DNANet
    stage: str = 'mim'             # Below the pyramid: 'mim' (words and sentences), 'mamba' (sentences alone), 'conv'
    first_stride: int = 8          # Stride of the sentences of the first stage: 4 or 8; words lie at a quarter of it
    dims: tuple = (64, 128)        # Width of a sentence in each stage
    depths: tuple = (2, 2)         # Blocks in each stage
    word_dim: int = 8
    d_state: int = 8
    mixer: str = 'ssm'             # Among sentences: 'ssm', or 'conv' for the control without a scan
    inner_mixer: str = 'conv'      # Among words
    side_outputs: bool = True

    def __post_init__(self):
        for name in ('widths', 'dims', 'depths'): object.__setattr__(self, name, tuple(getattr(self, name)))


class ConvBlock(nn.Module):
    "The control of a visual Mamba block: (B, H, W, dim) to the same shape by two convolutions, no scan."
    def __init__(self, dim):
        super().__init__()
        self.body = Residual(dim, dim)

    def forward(self, x): return self.body(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class MambaStages(nn.Module):
    "Stages of sentences alone: the pyramid's last map (B, C, H, W) to one map a stage, each at half the resolution."
    def __init__(self, c):
        super().__init__()
        first = conv(c.widths[-1], c.dims[0], stride=c.first_stride//4)
        block = lambda d: VisualMamba(d, d_state=c.d_state) if c.mixer == 'ssm' else ConvBlock(d)
        self.enter = nn.ModuleList([first, *(conv(i, o, stride=2) for i, o in zip(c.dims, c.dims[1:]))])
        self.stages = nn.ModuleList(nn.Sequential(*(block(d) for _ in range(n))) for d, n in zip(c.dims, c.depths))

    def forward(self, x, words):
        maps = []
        for enter, stage in zip(self.enter, self.stages):
            maps.append(x := stage(enter(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return maps


class MiMStages(nn.Module):
    "Stages of MiM blocks: sentences begin as the pyramid's last map, words as the map at a quarter of their stride."
    def __init__(self, c):
        super().__init__()
        self.p, dims = 4, c.dims
        self.level = {4: 0, 8: 1}[c.first_stride]  # whose features are the words
        self.enter = conv(c.widths[-1], dims[0], stride=c.first_stride//4)
        self.words = conv(c.widths[self.level], c.word_dim, 1)
        self.stages = nn.ModuleList(nn.ModuleList(
            MiMBlock(c.word_dim*2**i, d, 16, inner_mixer=c.inner_mixer, d_state=c.d_state)
            for _ in range(n)) for i, (d, n) in enumerate(zip(dims, c.depths)))
        self.merges = nn.ModuleList(SentenceMerge(d) for d in dims[:-1])
        self.word_merges = nn.ModuleList(WordMerge(c.word_dim*2**i, self.p) for i in range(len(dims) - 1))

    def forward(self, x, maps):
        x, words = self.enter(x), image_to_words(self.words(maps[self.level]), self.p)
        hw, sentences, out = x.shape[-2:], x.flatten(2).transpose(1, 2), []
        for i, stage in enumerate(self.stages):
            if i:
                words, sentences = self.word_merges[i-1](words, hw), self.merges[i-1](sentences, hw)
                hw = (hw[0]//2, hw[1]//2)
            for block in stage: words, sentences = block(words, sentences, hw)
            out.append(sentences.transpose(1, 2).unflatten(2, hw))
        return out


class Pyramid(nn.Module):
    "Images (B, 1, H, W) to logits (B, 1, H, W); in training a tuple of them with side outputs."
    _prepare = MiM._prepare

    def __init__(self, config):
        super().__init__()
        self.config = c = config
        self.multiple = c.first_stride * 2**(len(c.dims) - 1)
        w = (*c.widths, *c.dims)
        node = lambda i, o, stride=1: residuals(i, o, c.blocks, stride, c.attention)
        self.levels = nn.ModuleList(node(i, o, 2 if k else 1)
                                    for k, (i, o) in enumerate(zip((c.in_channels, *w), c.widths)))
        self.below = (MambaStages if c.stage == 'mamba' else MiMStages)(c)
        self.inner = nn.ModuleDict()
        if c.nested: # node (level, j) sees its level's earlier nodes and the one below
            for i, j in ((0, 1), (1, 1), (0, 2)): self.inner[f'{i}_{j}'] = node(j*w[i] + w[i+1], w[i])
        extra = {0: 2, 1: 1} if c.nested else {}
        self.ascent = nn.ModuleList(node(w[i+1] + w[i]*(1 + extra.get(i, 0)), w[i]) for i in range(len(w) - 2, -1, -1))
        n_sides = len(w) - 1 if c.side_outputs else 1
        self.heads = nn.ModuleList(nn.Conv2d(w[i], 1, 1) for i in range(n_sides))
        self.supervision = ('mask',)*n_sides

    def forward(self, x):
        H, W = x.shape[-2:]
        x, maps = self._prepare(x), []
        size = x.shape[-2:]
        for level in self.levels: maps.append(x := level(x))
        nodes = {i: [m] for i, m in enumerate(maps)}
        if self.inner: # filled from the top left, as a triangle
            for i, j in ((0, 1), (1, 1), (0, 2)):
                nodes[i].append(self.inner[f'{i}_{j}'](torch.cat([*nodes[i][:j], resize(nodes[i+1][j-1], nodes[i][0])], 1)))
        below = self.below(maps[-1], maps)
        for k, m in enumerate(below): nodes[len(maps) + k] = [m]
        x, out = below[-1], []
        for k, node in enumerate(self.ascent):
            i = len(nodes) - 2 - k
            out.append(x := node(torch.cat([*nodes[i], resize(x, nodes[i][0])], 1)))
        out = out[::-1]
        if not self.training: return self.heads[0](out[0])[..., :H, :W]
        logits = tuple(resize(h(o), size)[..., :H, :W] for h, o in zip(self.heads, out))
        return logits if len(logits) > 1 else logits[0]


def build(**changes):
    net = Pyramid(dataclasses.replace(PyramidConfig(), **changes))
    width = lambda m: (m.in_proj.weight if hasattr(m, 'in_proj') else m.body[0].weight).shape[1]
    return replace_mixers(net, lambda m: ConvMixer(width(m)), inner=False) if net.config.mixer == 'conv' else net
register_model('candidate', build)


