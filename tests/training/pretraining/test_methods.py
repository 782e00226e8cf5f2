"""Each method computes what its paper says, and learns from it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training.pretraining.tiny import METHODS, drawn_store, tiny_recipe
from training.pretraining.batch_norm_groups import with_groups
from training.pretraining.block_masks import block_masks
from training.pretraining.dinov2 import Dinov2
from training.pretraining.draws import Draws
from training.pretraining.encoder import encode
from training.pretraining.gmml import Gmml, PixelDecoder
from training.pretraining.group_masks import Corruption, corrupt
from training.pretraining.mae import Mae
from training.pretraining.method import Method
from training.pretraining.moco_v2 import MocoV2
from training.pretraining.parameter_groups import parameter_groups
from training.pretraining.recipe import PretrainingRecipe, read_pretraining_recipe, shipped_recipes
from training.pretraining.schedule import Moment
from training.pretraining.sinkhorn import sinkhorn
from workers.bundle import normalise
from workers.networks.features import create_backbone
from workers.networks.vit import ViT

_START = Moment(0, 100)


def _views(recipe: PretrainingRecipe, count: int = 8) -> tuple[list[Tensor], Draws]:
    rows = np.arange(count)
    squares = torch.from_numpy(drawn_store().images.take(rows)).float()[:, None] / 255
    draws = Draws(0, 0, rows.tolist())
    views = [
        normalise(view.of(squares, size, draws)[:, 0], recipe.preprocessing)
        for view, size in zip(recipe.method.views, recipe.stages[0].sizes, strict=True)
        for _ in range(view.count)
    ]
    return views, draws


def _made(kind: str) -> tuple[Method, PretrainingRecipe]:
    recipe = tiny_recipe(kind)
    torch.manual_seed(0)
    return recipe.create(recipe.stages[0]), recipe


@pytest.mark.parametrize("kind", METHODS)
def test_it_learns_to_solve_its_own_task(kind: str) -> None:
    """On the same views again and again the loss falls, and features of different images stay different."""
    method, recipe = _made(kind)
    optimizer = torch.optim.AdamW([each for each in method.parameters() if each.requires_grad], lr=2e-3)
    losses = []
    for step in range(25):
        views, draws = _views(recipe)
        moment = Moment(step, 1000)
        torch.manual_seed(0)
        loss = method(views, draws, moment)
        total = torch.stack(list(loss.parts.values())).sum()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        method.after_step(moment)
        losses.append({name: float(value.detach()) for name, value in loss.parts.items()})
    name = {"dinov2": "dino", "moco_v2": "contrast", "sit": "contrast"}.get(kind, "reconstruction")
    # A queue that fills with this batch's own keys makes MoCo's task harder at first: its last loss is of a full one.
    first = 8 if kind == "moco_v2" else 0
    assert losses[-1][name] < 0.97 * losses[first][name]
    assert float(loss.monitors["feature_std"]) > 0.02


def test_dinov2s_loss_is_that_of_its_equations() -> None:
    method, recipe = _made("dinov2")
    assert isinstance(method, Dinov2)
    method.eval()
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            # Wide open: as they begin, every image has nearly the same class token.
            if name.endswith("gamma"):
                parameter.fill_(0.5)
    views, draws = _views(recipe)
    with torch.no_grad():
        loss = method(views, draws, _START)
    _, draws = _views(recipe)
    crops = torch.cat(views[:2])
    masked = method._masks(crops, draws)
    with torch.no_grad():
        said = encode(method.teacher.backbone, crops)
        targets = _balanced(method.teacher.dino_head(said.cls)).chunk(2)
        of_patches = _balanced(method.teacher.ibot_head(said.patches[masked]))
        seen = encode(method.student.backbone, crops, masked=masked)
        learned = [F.log_softmax(method.student.dino_head(part) / 0.1, dim=1) for part in seen.cls.chunk(2)]
        for view in views[2:]:
            cls = encode(method.student.backbone, view).cls
            learned.append(F.log_softmax(method.student.dino_head(cls) / 0.1, dim=1))
        terms = [-(t * s).sum(1).mean() for i, t in enumerate(targets) for j, s in enumerate(learned) if i != j]
        patches = F.log_softmax(method.student.ibot_head(seen.patches[masked]) / 0.1, dim=1)
        shares = [1 / int(masked[crop].sum()) for crop in masked.nonzero()[:, 0]]
        ibot = 3 * (torch.tensor(shares) * -(of_patches * patches).sum(1)).sum() / len(crops)
        koleo = torch.zeros(())
        for part in seen.cls.chunk(2):
            unit = F.normalize(part, dim=1)
            apart = (unit[:, None] - unit).norm(dim=2) + 10 * torch.eye(len(unit))
            koleo = koleo - 0.1 * torch.log(apart.amin(1) + 1e-8).mean()
    assert len(terms) == 2 * (2 + 2 - 1)
    assert float(loss.parts["dino"]) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-4)
    assert float(loss.parts["ibot"]) == pytest.approx(float(ibot), rel=1e-4)
    assert float(loss.parts["koleo"]) == pytest.approx(float(koleo), rel=1e-3)


def _balanced(scores: Tensor) -> Tensor:
    """Sinkhorn-Knopp of 3 iterations at the first temperature, written out."""
    q = torch.exp(scores.double() / 0.04 - (scores.double() / 0.04).max()).T
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / q.shape[0]
        q = q / q.sum(0, keepdim=True) / q.shape[1]
    return (q * q.shape[1]).T.float()


def test_every_prototype_gets_its_part_of_the_batch() -> None:
    scores = torch.randn(512, 16, generator=torch.Generator().manual_seed(0)) + torch.linspace(-3, 3, 16)
    shares = sinkhorn(scores, 1.0, 50)
    assert torch.allclose(shares.sum(1), torch.ones(512), atol=1e-4)
    assert torch.allclose(shares.sum(0), torch.full((16,), 512 / 16), rtol=0.01)


def test_the_teacher_follows_and_learns_nothing_by_itself() -> None:
    method, recipe = _made("dinov2")
    assert isinstance(method, Dinov2)
    views, draws = _views(recipe)
    total = torch.stack(list(method(views, draws, _START).parts.values())).sum()
    total.backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is None for each in method.teacher.parameters())
    before = method.teacher.backbone.cls_token.clone()
    with torch.no_grad():
        method.student.backbone.cls_token.add_(1)
    method.after_step(_START)
    assert torch.allclose(method.teacher.backbone.cls_token - before, torch.full_like(before, 0.006), atol=1e-4)


def test_block_masks_hide_half_of_the_crops_in_the_shares_that_are_asked() -> None:
    masks = block_masks(Draws(0, 0, range(200)), 14, 2, 0.5, (0.1, 0.5)).flatten(0, 1)
    shares = masks.float().mean(dim=(1, 2))
    assert float((shares > 0).float().mean()) == pytest.approx(0.5, abs=0.08)
    hidden = shares[shares > 0]
    assert float(hidden.min()) > 0.05
    assert float(hidden.max()) <= 0.5
    assert float(hidden.mean()) == pytest.approx(0.3, abs=0.03)


def test_the_autoencoder_is_judged_on_hidden_patches_alone() -> None:
    method, recipe = _made("mae")
    assert isinstance(method, Mae)
    with torch.no_grad():
        method.decoder_pred.weight.zero_()
        method.decoder_pred.bias.zero_()
    (view,), draws = _views(recipe)
    hidden = _views(recipe)[1].uniform(16).argsort(dim=1)[:, 4:]
    # Who draws nothing errs by the variance of the targets; of patches without any contrast that is 0, not 1.
    patches = view.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).reshape(8, 16, -1)
    patches = (patches - patches.mean(2, keepdim=True)) / (patches.var(2, keepdim=True) + 1e-6).sqrt()
    expected = patches.gather(1, hidden[:, :, None].expand(-1, -1, patches.shape[2])).square().mean()
    with torch.no_grad():
        loss = method([view], draws, _START).parts["reconstruction"]
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_group_masks_cover_what_the_published_code_covers() -> None:
    """Measured there: noise over 0.64 of the pixels (0.51 to 0.77), another image over 0.31."""
    images = torch.randn(300, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    noise = corrupt(images, Corruption(instead=0.0), Draws(0, 0, range(300))).changed.float().mean(dim=(1, 2, 3))
    assert float(noise.mean()) == pytest.approx(0.64, abs=0.02)
    assert float(noise.min()) > 0.49
    assert float(noise.max()) < 0.80
    other = corrupt(images, Corruption(instead=1.0), Draws(0, 0, range(300)))
    assert float(other.changed.float().mean()) == pytest.approx(0.31, abs=0.01)
    pasted = other.images[0][other.changed[0]]
    assert any(torch.equal(pasted, image[other.changed[0]]) for image in images[1:])


def test_what_no_rectangle_touches_counts_for_nothing() -> None:
    method, recipe = _made("gmml")
    assert isinstance(method, Gmml)
    views, draws = _views(recipe)
    with torch.no_grad():
        for parameter in method.head_recons.convTrans.parameters():
            parameter.zero_()
    # Who draws grey errs by the mean brightness of what was changed.
    with torch.no_grad():
        loss = method(views, draws, _START).parts["reconstruction"]
    _, draws = _views(recipe)
    expected = [view[corrupt(view, Corruption(), draws).changed.expand_as(view)].abs().mean() for view in views]
    assert float(loss) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)


def test_the_queue_is_what_the_key_encoder_said_before() -> None:
    method, recipe = _made("moco_v2")
    assert isinstance(method, MocoV2)
    views, draws = _views(recipe)
    bank = method.contrast.memory_bank
    before = bank.bank.clone()
    method(views, draws, _START)
    assert not torch.equal(bank.bank[:8], before[:8])
    assert torch.equal(bank.bank[8:], before[8:])
    assert torch.allclose(bank.bank[:8].norm(dim=1), torch.ones(8), atol=1e-5)
    assert "contrast.memory_bank.bank" in method.state_dict()


def test_batch_norm_groups_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    images = torch.randn(8, 1, 32, 32)
    whole, grouped = (create_backbone("chexnode_resnet18", {}) for _ in range(2))
    grouped.load_state_dict(whole.state_dict())
    with_groups(grouped, 2)
    apart = torch.stack([whole(images[start::2]).cls[-1] for start in (0, 1)], dim=1).flatten(0, 1)
    together = grouped(images).cls[-1]
    assert torch.allclose(together, apart, atol=1e-4)
    assert not torch.allclose(whole(images).cls[-1], apart, atol=1e-2)


def test_masked_patches_are_not_seen_and_left_out_ones_are_not_computed() -> None:
    method, recipe = _made("dinov2")
    assert isinstance(method, Dinov2)
    vit: ViT = method.teacher.backbone.eval()
    (view, *_), _ = _views(recipe, 2)
    masked = torch.zeros(2, 16, dtype=torch.bool)
    masked[:, 5] = True
    changed = view.clone()
    changed[:, :, 16:32, 16:32] = 0.3
    with torch.inference_mode():
        assert torch.equal(encode(vit, view, masked=masked).cls, encode(vit, changed, masked=masked).cls)
        kept = torch.tensor([[0, 3, 9]] * 2)
        assert encode(vit, view, kept=kept).patches.shape == (2, 3, 64)
        whole, features = encode(vit, view), vit(view)
        assert torch.allclose(whole.cls, features.cls[-1], atol=1e-6)
        assert torch.allclose(whole.patches, features.patches[-1], atol=1e-6)


def test_the_published_networks_have_the_published_sizes() -> None:
    recipes = {name: read_pretraining_recipe(path) for name, path in shipped_recipes().items()}
    with torch.device("meta"):
        mae = recipes["cxrbase"].create(recipes["cxrbase"].stages[0])
        gmml = recipes["spcxr"].create(recipes["spcxr"].stages[0])
        decoder = PixelDecoder(384, 3)
    assert isinstance(mae, Mae)
    assert _count(mae.encoder) == 303_301_632
    assert _count(mae) - _count(mae.encoder) == 26_240_256
    assert isinstance(gmml, Gmml)
    assert _count(gmml.backbone) == 21_665_664
    assert _count(decoder) == 738_435


def _count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def test_vectors_do_not_decay_and_early_layers_learn_more_slowly() -> None:
    vit, _ = _made("gmml")
    assert isinstance(vit, Gmml)
    groups = parameter_groups(vit.backbone, 0.1, patch_embedding=0.2, layer_decay=0.5)
    factor = {id(each): group["rate_factor"] for group in groups for each in group["params"]}
    decay = {id(each): group["weight_decay"] for group in groups for each in group["params"]}
    backbone = vit.backbone
    assert decay[id(backbone.norm.bias)] == 0
    block = backbone.blocks[3]
    assert isinstance(block.attn.qkv, nn.Linear)  # type: ignore[union-attr]
    assert decay[id(block.attn.qkv.weight)] == 0.1  # type: ignore[union-attr]
    assert factor[id(backbone.norm.weight)] == 1
    assert factor[id(block.attn.qkv.weight)] == 0.5  # type: ignore[union-attr]
    assert factor[id(backbone.patch_embed.proj.weight)] == pytest.approx(0.2 * 0.5**5)
    assert len(factor) == len(list(backbone.parameters()))
    assert math.isclose(sum(len(group["params"]) for group in groups), len(factor))
