"""Small networks' weights in the layouts in which the big ones were published; random, from a seed."""

import math

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

Weights = dict[str, Tensor]

WIDTH, DEPTH, HEADS, HIDDEN, SIDE, REGISTERS = 32, 4, 4, 24, 4, 4


def chexfound_backbone(depth: int = DEPTH) -> Weights:
    """Flat names of a small relative of CheXFound's ViT, positions of a 4 x 4 grid."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + SIDE**2, WIDTH),
        "register_tokens": (1, REGISTERS, WIDTH),
        "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for index in range(depth):
        block = {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "ls1.gamma": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
            "mlp.w12.weight": (2 * HIDDEN, WIDTH),
            "mlp.w12.bias": (2 * HIDDEN,),
            "mlp.w3.weight": (WIDTH, HIDDEN),
            "mlp.w3.bias": (WIDTH,),
            "ls2.gamma": (WIDTH,),
        }
        shapes |= {f"blocks.{index}.{name}": shape for name, shape in block.items()}
    return _drawn(shapes, seed=1)


def chunked(flat: Weights, size: int = 2) -> Weights:
    """Names of teacher_checkpoint.pth: block I as blocks.(I // size).I."""
    renamed = {}
    for name, tensor in flat.items():
        parts = name.split(".")
        if parts[0] == "blocks":
            parts = ["blocks", str(int(parts[1]) // size), *parts[1:]]
        renamed[".".join(["backbone", *parts])] = tensor
    return renamed


def hugging_face(flat: Weights) -> Weights:
    """Names of the copy on Hugging Face."""
    return {"model." + name.replace(".gamma", ".weight"): tensor for name, tensor in flat.items()}


def glori_head(classes: int, cat_cls: bool, seed: int = 2, width: int = 16, blocks: int = 4) -> Weights:
    """Names of one head inside glori.pth, from `decoder.` on."""
    features = blocks * WIDTH
    layer = "decoder.layers.0."
    return _drawn(
        {
            "decoder.embed_standart.weight": (width, features),
            "decoder.embed_standart.bias": (width,),
            "decoder.query_embed.weight": (classes, width),
            "decoder.duplicate_pooling": (classes, width + features * cat_cls, 1),
            "decoder.duplicate_pooling_bias": (classes,),
            **{f"{layer}norm{n}.{kind}": (width,) for n in (1, 2, 3) for kind in ("weight", "bias")},
            f"{layer}multihead_attn.in_proj_weight": (3 * width, width),
            f"{layer}multihead_attn.in_proj_bias": (3 * width,),
            f"{layer}multihead_attn.out_proj.weight": (width, width),
            f"{layer}multihead_attn.out_proj.bias": (width,),
            f"{layer}linear1.weight": (40, width),
            f"{layer}linear1.bias": (40,),
            f"{layer}linear2.weight": (width, 40),
            f"{layer}linear2.bias": (width,),
        },
        seed,
    )


def grid(heads: dict[str, Weights]) -> Weights:
    """Names of glori.pth: all heads of the learning-rate grid."""
    return {f"classifiers_dict.{name}.{each}": tensor for name, head in heads.items() for each, tensor in head.items()}


def timm_vit(depth: int, classes: int = 0, pool: str = "token") -> VisionTransformer:
    """A plain ViT as MAE, GMML and SiT have it, in another maker's code; with pool "avg" `fc_norm` replaces `norm`."""
    torch.manual_seed(3)
    vit = VisionTransformer(
        img_size=64,
        patch_size=16,
        embed_dim=WIDTH,
        depth=depth,
        num_heads=HEADS,
        num_classes=classes,
        global_pool=pool,  # type: ignore[arg-type]
        weight_init="skip",
    )
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return vit.eval()


def mae_decoder() -> Weights:
    """What an MAE checkpoint holds beside the encoder."""
    shapes: dict[str, tuple[int, ...]] = {
        "mask_token": (1, 1, 8),
        "decoder_embed.weight": (8, WIDTH),
        "decoder_embed.bias": (8,),
        "decoder_pos_embed": (1, 17, 8),
        "decoder_blocks.0.norm1.weight": (8,),
        "decoder_blocks.0.attn.qkv.weight": (24, 8),
        "decoder_blocks.0.mlp.fc1.bias": (32,),
        "decoder_norm.weight": (8,),
        "decoder_pred.weight": (768, 8),
    }
    return _drawn(shapes, seed=4)


def _drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> Weights:
    """Values large enough that each tensor shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, shape in shapes.items():
        scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.5
        drawn[name] = torch.randn(shape, generator=generator) * scale
        if "norm" in name and name.endswith("weight"):
            drawn[name] += 1
    return drawn
