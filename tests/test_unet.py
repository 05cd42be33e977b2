"""The U-Net: the published networks and starts, any size, where it attends, and its mistakes; diffusers beside it."""

import math
from typing import Any

import pytest
import torch
from backbones_kit import LETTERS, SMALL, count, inputs, lively
from torch import Tensor, nn
from torch.nn import functional as F

from dmf.core import CondSpec, DataSpec
from dmf.plugins.backbones._unet_blocks import Attention, Residual, Style
from dmf.plugins.backbones._unet_resampling import (
    Double,
    Halve,
    HalveByConvolution,
    _convolved_before_doubling,
    convolve_doubled,
)
from dmf.plugins.backbones.unet import UNet
from dmf.registry import read

COLOUR = DataSpec((3, 32, 32))
IMAGENET = tuple(map(str, range(1000)))
ADM: dict[str, Any] = {"resample": "block", "scale_shift": True, "init": "torch"}
DDPMPP: dict[str, Any] = {"resample": "projecting_block", "half_sums": True, "decoder_attention": "last"}
NETWORKS = pytest.mark.parametrize("options", [{}, ADM, DDPMPP], ids=["DDPM", "ADM", "DDPM++"])


def small_unet(spec: DataSpec, **options: Any) -> UNet:
    return UNet(spec, **{**SMALL["unet"], **options})


def on_meta(spec: DataSpec, recipe: str, **options: Any) -> UNet:
    with torch.device("meta"):
        return UNet(spec, **{**read(recipe).backbone.options, **options})


# the published networks


def test_ddpm_has_the_published_size() -> None:
    """Ho et al., appendix B: 35.7 million; their program's network has 35,746,307."""
    assert count(UNet(COLOUR)) == 35_746_307
    assert count(on_meta(COLOUR, "cifar10_unet")) == 35_746_307


def test_ddpmpp_has_the_published_size() -> None:
    """Karras et al., table 7: 55.7 million; their program's 55,733,891 has a map of 9 augmentations to 128 too.

    The map is from 9 to the 512 of a block here, and comes with the label of `edm`, which is not of the data.
    """
    assert count(on_meta(COLOUR, "cifar10_edm_unet")) == 55_733_891 - 9 * 128
    label = {"augmentation": CondSpec("vector", (9,), neutral=True)}
    assert count(on_meta(DataSpec((3, 32, 32), (), label), "cifar10_edm_unet")) == 55_733_891 - 9 * 128 + 10 * 512


def test_adm_has_the_published_sizes() -> None:
    """Dhariwal & Nichol, table 4: 296, 422 and 554 million; theirs has 3 channels more (variances), no row for none.

    Their unconditional network of 256 x 256 has 552,814,086 weights to the last one.
    """

    def theirs(size: int, classes: tuple[str, ...] = IMAGENET, **options: Any) -> int:
        network = on_meta(DataSpec((3, size, size), classes), "imagenet64_adm_unet", **options)
        base = options.get("base", 192)
        return count(network) + 3 * (9 * base + 1) - (4 * base if classes else 0)

    wide = {"base": 256, "blocks": 2}
    table = [theirs(64), theirs(128, **wide, multipliers=[1, 1, 2, 3, 4])]
    table += [theirs(256, **wide, multipliers=[1, 1, 2, 2, 4, 4])]
    assert [round(n / 1e6) for n in table] == [296, 422, 554]
    assert theirs(256, (), **wide, multipliers=[1, 1, 2, 2, 4, 4]) == 552_814_086


def test_anime_faces_has_its_five_levels() -> None:
    network = on_meta(DataSpec((3, 64, 64)), "anime_faces_unet")
    residual = [block for block in network.down if isinstance(block, Residual)]
    assert list(dict.fromkeys(block.conv2.out_channels for block in residual)) == [64, 128, 256, 1024]
    assert [block.conv2.out_channels for block in residual][::2] == [64, 64, 128, 256, 1024]
    assert [isinstance(block.attention, Attention) for block in residual][::2] == [False] * 3 + [True] * 2


@NETWORKS
def test_every_branch_starts_at_zero(options: dict[str, Any]) -> None:
    network = small_unet(DataSpec((1, 8, 8), LETTERS), **options).eval()
    assert not network(*inputs(network.spec)).any()
    plain = [b for b in network.blocks() if isinstance(b, Residual) and b.conv1.in_channels == b.conv2.out_channels]
    alike = [block for block in plain if isinstance(block.resample, nn.Identity)]
    assert {isinstance(block.attention, nn.Identity) for block in alike} == {True, False}
    for block in alike:
        h = torch.randn(2, block.norm1.num_channels, 4, 4)
        sums = 1 if isinstance(block.attention, nn.Identity) else 2
        want = h / math.sqrt(2) ** sums if "half_sums" in options else h
        assert torch.allclose(block(h, torch.randn(2, 32)), want)


def test_init_is_the_papers() -> None:
    """Xavier's bound is sqrt(6 / (in + out)), torch's own 1 / sqrt(in); a 3 x 3 convolution sees nine times as much."""
    for init, bound in (("xavier", math.sqrt(6 / (9 * 128 + 9 * 128))), ("torch", 1 / math.sqrt(9 * 128))):
        network = UNet(COLOUR, multipliers=(1,), attention=(), init=init)  # type: ignore[arg-type]
        conv = network.down[0].conv1
        assert isinstance(conv, nn.Conv2d)
        assert float(conv.weight.detach().abs().max()) == pytest.approx(bound, rel=1e-3)
        assert conv.bias is not None and bool(conv.bias.any()) == (init == "torch")


# another implementation


def residual_names(ours: str, theirs: str) -> dict[str, str]:
    pairs = {"norm1": "norm1", "conv1": "conv1", "steer": "time_emb_proj", "norm2": "norm2", "conv2": "conv2"}
    return {f"{theirs}.{b}": f"{ours}.{a}" for a, b in {**pairs, "shortcut": "conv_shortcut"}.items()}


def renamed(network: UNet) -> dict[str, Tensor]:
    """Our weights under the names of diffusers' UNet2DModel with two blocks a level."""
    names = {
        "conv_in": "into",
        "conv_norm_out": "norm",
        "conv_out": "out",
        "class_embedding": "conditioning.conditions.classes",
    }
    names |= {"time_embedding.linear_1": "conditioning.noise.into", "time_embedding.linear_2": "conditioning.noise.out"}
    places = {f"middle.{i}": f"mid_block.resnets.{i}" for i in (0, 1)}
    attention = {"middle.0.attention": "mid_block.attentions.0"}
    for way, blocks, per_level in (("down", network.down, 3), ("up", network.up, 4)):
        for i, block in enumerate(blocks):
            level, j = divmod(i, per_level)
            sampler = f"{way}_blocks.{level}.{way}samplers.0"
            if isinstance(block, Residual):
                changes = not isinstance(block.resample, nn.Identity)
                places[f"{way}.{i}"] = sampler if changes else f"{way}_blocks.{level}.resnets.{j}"
                attention[f"{way}.{i}.attention"] = f"{way}_blocks.{level}.attentions.{j}"
            else:
                names[f"{sampler}.conv"] = f"{way}.{i}.conv"
    for ours, theirs in places.items():
        names |= residual_names(ours, theirs)
    for ours, theirs in attention.items():
        names |= {f"{theirs}.group_norm": f"{ours}.norm", f"{theirs}.to_out.0": f"{ours}.mix.project"}
    state = network.state_dict()
    out = {
        f"{a}.{end}": state[f"{b}.{end}"]
        for a, b in names.items()
        for end in ("weight", "bias")
        if f"{b}.{end}" in state
    }
    for ours, theirs in attention.items():
        for end in ("weight", "bias"):
            if f"{ours}.mix.qkv.{end}" in state:
                parts = state[f"{ours}.mix.qkv.{end}"].chunk(3)
                out |= {f"{theirs}.to_{letter}.{end}": part for letter, part in zip("qkv", parts, strict=True)}
    return out


@pytest.mark.parametrize("adm", [False, True], ids=["DDPM", "ADM"])
def test_it_is_the_network_that_diffusers_has(adm: bool) -> None:
    from diffusers import UNet2DModel

    spec, widths = DataSpec((3, 16, 16), LETTERS), (32, 64, 64)
    plain = {"base": 32, "multipliers": (1, 2, 2), "attention": (8,), "groups": 8, "head_channels": 16 if adm else 64}
    ours = lively(UNet(spec, **plain, **(ADM if adm else {})))  # type: ignore[arg-type]
    assert isinstance(ours, UNet)
    kind = "Resnet{}sampleBlock2D" if adm else "{}Block2D"
    down, up = kind.format("Down"), kind.format("Up")
    theirs = UNet2DModel(
        sample_size=16,
        down_block_types=(down, "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D" if not adm else up, "AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=widths,
        norm_num_groups=8,
        attn_norm_num_groups=8,
        norm_eps=1e-6,
        attention_head_dim=plain["head_channels"],
        num_class_embeds=8,
        downsample_type="resnet" if adm else "conv",
        upsample_type="resnet" if adm else "conv",
        resnet_time_scale_shift="scale_shift" if adm else "default",
    ).eval()
    theirs.load_state_dict(renamed(ours))
    x, noise, cond = inputs(spec)
    with torch.no_grad():
        got, want = ours(x, noise, cond), theirs(x, noise, cond["class"]).sample
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def by_hand(block: Residual, x: Tensor, embedding: Tensor, resample: Any) -> Tensor:
    """A block of DDPM++ from its description (Song et al. 2021, appendix H; Karras et al., appendix F.2)."""

    def norm(x: Tensor, layer: nn.GroupNorm) -> Tensor:
        grouped = x.reshape(len(x), layer.num_groups, -1)
        unit = (grouped - grouped.mean(2, keepdim=True)) / (grouped.var(2, correction=0, keepdim=True) + 1e-6).sqrt()
        return unit.reshape(x.shape) * layer.weight[:, None, None] + layer.bias[:, None, None]

    def swish(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    w = dict(block.named_parameters())
    h = F.conv2d(resample(swish(norm(x, block.norm1))), w["conv1.weight"], w["conv1.bias"], padding=1)
    h = h + (embedding @ w["steer.weight"].T + w["steer.bias"])[:, :, None, None]
    h = F.conv2d(swish(norm(h, block.norm2)), w["conv2.weight"], w["conv2.bias"], padding=1)
    return (h + F.conv2d(resample(x), w["shortcut.weight"], w["shortcut.bias"])) / math.sqrt(2)


def means(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, ::2] + x[..., 1::2, 1::2]) / 4


def copies(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_block_of_ddpmpp_is_that_of_the_paper(way: str) -> None:
    style = Style(16, 4, 0.1, 1, None, scale_shift=False, half_sums=True, resample="projecting_block")
    block = Residual(8, 8, style, resample=Halve() if way == "down" else Double()).double().eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x, embedding = torch.randn(2, 8, 4, 6, dtype=torch.float64), torch.randn(2, 16, dtype=torch.float64)
    assert torch.allclose(block(x, embedding), by_hand(block, x, embedding, means if way == "down" else copies))


# resampling, odd sizes


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 2), (1, 1)])
def test_a_doubled_image_is_convolved_without_doubling_it(size: tuple[int, int]) -> None:
    conv = nn.Conv2d(3, 5, 3, padding=1, dtype=torch.float64)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    long = conv(copies(x))
    weights = torch.randn_like(long)
    wanted = torch.autograd.grad((long * weights).sum(), [x, *conv.parameters()], retain_graph=True)
    for way in (_convolved_before_doubling, convolve_doubled):
        short = way(x, conv)
        assert torch.allclose(short, long)
        got = torch.autograd.grad((short * weights).sum(), [x, *conv.parameters()])
        assert all(torch.allclose(a, b) for a, b in zip(got, wanted, strict=True))


def test_both_ways_of_doubling_agree_in_float32() -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(64, 32, 3, padding=1), torch.randn(2, 64, 7, 5)
    short, long = convolve_doubled(x, conv), conv(copies(x))
    assert torch.equal(short, _convolved_before_doubling(x, conv)) and not torch.equal(short, long)
    assert torch.allclose(short, long, rtol=1e-5, atol=1e-5)


def test_in_bf16_a_doubled_image_stays_so_and_is_as_exact() -> None:
    """By autocast or by weights: what torch's own convolution gives of the copies."""
    torch.manual_seed(0)
    conv, x = nn.Conv2d(64, 32, 3, padding=1), torch.randn(2, 64, 7, 5)
    with torch.autocast("cpu", torch.bfloat16):
        got, want = convolve_doubled(x, conv), conv(copies(x))
        compiled = torch.compile(convolve_doubled, fullgraph=True, backend="eager")
        assert torch.equal(compiled(x, conv), want)
    assert got.dtype == torch.bfloat16 and torch.equal(got, want)
    assert compiled(x, conv).dtype == torch.float32
    conv, x = conv.bfloat16(), x.bfloat16()
    assert torch.equal(convolve_doubled(x, conv), conv(copies(x)))


def test_an_odd_side_is_halved_with_what_there_is() -> None:
    x = torch.arange(15.0).reshape(1, 1, 3, 5)
    assert Halve()(x).flatten().tolist() == [3, 5, 6.5, 10.5, 12.5, 14]
    assert HalveByConvolution(1)(x, torch.zeros(1, 1)).shape == (1, 1, 2, 3)


@NETWORKS
@pytest.mark.parametrize("size", [(28, 28), (7, 5), (1, 9), (1, 1)])
def test_any_size_goes_through(options: dict[str, Any], size: tuple[int, int]) -> None:
    network = lively(small_unet(DataSpec((2, *size), LETTERS), multipliers=[1, 2, 2, 1], **options))
    assert network(*inputs(network.spec)).shape == (6, 2, *size)


def test_what_is_cropped_after_an_odd_side_is_the_last_row() -> None:
    """Levels of 5 and 3: the third row of the small image stands for the fifth of the large one, not for the third."""
    network = lively(small_unet(DataSpec((1, 5, 1)), dropout=0))
    seen: dict[str, Tensor] = {}
    double = next(block for block, joins in zip(network.up, network.joins, strict=True) if not joins)  # type: ignore[arg-type]
    double.register_forward_hook(lambda _m, _i, out: seen.update(small=out))  # type: ignore[union-attr]
    network.up[-2].register_forward_hook(lambda _m, i, _o: seen.update(joined=i[0]))  # type: ignore[union-attr]
    network(*inputs(network.spec))
    channels = seen["small"].shape[1]
    assert seen["small"].shape[2:] == (6, 2)
    assert torch.equal(seen["joined"][:, :channels], seen["small"][:, :, :5, :1])


# attention


def attending(blocks: Any) -> list[bool]:
    return [isinstance(b.attention, Attention) for b in blocks if isinstance(b, Residual)]


def test_it_attends_where_it_is_told() -> None:
    def where(attention: tuple[int, ...], **options: Any) -> list[bool]:
        return attending(small_unet(DataSpec((1, 8, 16)), attention=attention, **options).blocks())

    # down 16, down 8, the middle's two, up 8 twice, up 16 twice
    assert where(()) == [False, False, True, False, False, False, False, False]
    assert where((8,)) == [False, True, True, False, True, True, False, False]
    assert where((16,)) == [True, False, True, False, False, False, True, True]
    assert where((16, 8), decoder_attention="last") == [True, True, True, False, False, True, False, True]
    # 7 x 7 is a level of 28 x 28, and 4 x 4 the one below it
    odd = small_unet(DataSpec((1, 28, 28)), multipliers=[1, 1, 2, 2], attention=(7, 4))
    assert attending(odd.down) == [False, False, True, True]


def test_blocks_that_resample_do_not_attend() -> None:
    network = small_unet(DataSpec((1, 8, 8)), attention=(8, 4), **ADM)
    resampling = [b for b in network.blocks() if isinstance(b, Residual) and not isinstance(b.resample, nn.Identity)]
    assert attending(resampling) == [False, False]


def test_heads_are_counted_or_measured() -> None:
    by_number = small_unet(DataSpec((1, 8, 8)), base=32, attention=(8, 4), heads=4)
    by_width = small_unet(DataSpec((1, 8, 8)), base=32, attention=(8, 4), head_channels=16)

    def heads(network: UNet) -> set[int]:
        return {m.mix.heads for m in network.modules() if isinstance(m, Attention)}

    assert heads(by_number) == {4} and heads(by_width) == {2, 4}


def test_its_blocks_are_the_residual_ones() -> None:
    # down 1 + 1, middle 2, up 2 + 2 with one residual block a level; ADM's resample with two more
    assert len(small_unet(DataSpec((1, 8, 8), LETTERS)).blocks()) == 8
    assert len(small_unet(DataSpec((1, 8, 8), LETTERS), **ADM).blocks()) == 10


# mistakes


def unet_error(**options: Any) -> str:
    shape = options.pop("shape", (3, 32, 32))
    with pytest.raises(ValueError) as error:
        UNet(DataSpec(shape), **options)
    return str(error.value)


def test_it_says_what_to_write() -> None:
    assert "groups 32 does not divide the 48 channels" in unet_error(base=48)
    assert "write backbone.groups: 24" in unet_error(base=48)
    assert "heads 5 does not divide the 256 channels" in unet_error(heads=5)
    assert "write backbone.heads: 4" in unet_error(heads=5)
    assert "write backbone.head_channels: 64" in unet_error(head_channels=100, attention=(32,))
    assert "heads 2 and head_channels 64 both split the attention" in unet_error(heads=2, head_channels=64)
    small = unet_error(shape=(1, 8, 8))
    assert "attention at resolution 16, but the levels have 8, 4, 2, 1" in small and "backbone.attention" in small
    assert "the levels have 30, 15, 8, 4" in unet_error(shape=(1, 28, 30))
    assert "base must be even" in unet_error(base=33, groups=33)
    single = unet_error(shape=(1, 8, 8), base=32, multipliers=(2, 2, 1, 1), attention=())
    assert "at 1 x 1 pixels" in single and "write backbone.groups: 16" in single
