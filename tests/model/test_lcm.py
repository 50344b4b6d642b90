import pytest
import torch

from lcm_scale.config import ModelConfig
from lcm_scale.errors import InputError
from lcm_scale.model.lcm import LCM
from lcm_scale.model.presets import resolve

# docs/model.md, Sizes: counted with 4 class, 2 sex and 1 age token.
PUBLISHED = {
    "147m": 147_190_785,
    "294m": 294_117_377,
    "441m": 441_043_969,
    "588m": 587_970_561,
    "735m": 734_897_153,
    "882m": 881_823_745,
    "1b": 1_028_750_337,
    "1.2b": 1_175_676_929,
}


def tiny(**changes: object) -> LCM:
    torch.manual_seed(0)
    return LCM(resolve(ModelConfig(preset="tiny", **changes), 12, (4, 2, 1)))


@pytest.mark.parametrize(("size", "parameters"), PUBLISHED.items())
def test_published_sizes_have_exactly_the_published_parameters(size: str, parameters: int) -> None:
    with torch.device("meta"):
        model = LCM(resolve(ModelConfig(preset=size), 116, (4, 2, 1)))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_logits_come_from_every_layer_for_every_active_token() -> None:
    model = tiny()
    fc = torch.randn(3, 12, 12)
    assert model(fc).shape == (2, 3, 7)
    assert model(fc, active=(0, 2)).shape == (2, 3, 5)


def test_an_inactive_target_takes_part_in_nothing() -> None:
    model = tiny().eval()
    fc = torch.randn(3, 12, 12)
    before = model(fc, active=(0, 2))
    with torch.no_grad():
        model.tokens.target_1.add_(1.0)
    assert torch.equal(model(fc, active=(0, 2)), before)
    model(fc, active=(0, 2)).sum().backward()
    assert model.tokens.target_1.grad is None


def test_reference_initialisation_makes_all_layers_identical_and_the_default_does_not() -> None:
    def same(model: LCM) -> bool:
        a, b = (layer.state_dict() for layer in model.layers)
        return all(torch.equal(a[k], b[k]) for k in a)

    assert same(tiny(init="reference"))
    assert not same(tiny())


def test_initial_values_are_pytorchs_defaults_as_published() -> None:
    with torch.device("cpu"):
        model = LCM(resolve(ModelConfig(preset="147m", layers=1), 116, (4, 2, 1)))
    layer = model.layers[0].requires_grad_(False)
    bound = (6 / (4 * 2048)) ** 0.5  # Xavier-uniform on (3D, D): .02706
    assert layer.cross_attention.in_proj_weight.abs().max() == pytest.approx(bound, rel=1e-3)
    assert (
        not layer.cross_attention.in_proj_bias.any()
        and not layer.cross_attention.out_proj.bias.any()
    )
    assert layer.linear1.weight.abs().max() == pytest.approx(2048**-0.5, rel=1e-3)
    assert model.tokens.target_0.detach().std() == pytest.approx(1.0, rel=0.05)


def test_decoder_equals_torchs_own_attention_modules_in_eval() -> None:
    """The published layer written with nn.MultiheadAttention, weight for weight."""
    model = tiny(dropout=0.0).double()
    fc = torch.randn(3, 12, 12).double()
    model(fc)  # fills the batch norm's buffers
    model.eval()
    memory = model.embedding(fc, None)
    position = model.tokens(range(3)).expand(3, 7, 64)
    state = torch.zeros_like(position)
    expected = []
    for layer in model.layers:
        for ours, _, key, value, norm in (
            (layer.self_attention, None, None, None, layer.norm1),
            (layer.cross_attention, None, memory, memory, layer.norm2),
        ):
            theirs = torch.nn.MultiheadAttention(64, 4, batch_first=True).double()
            theirs.load_state_dict(ours.state_dict())
            placed = state + position
            state = norm(
                state
                + theirs(placed, placed if key is None else key, state if value is None else value)[
                    0
                ]
            )
        state = layer.norm3(state + layer.linear2(torch.relu(layer.linear1(state))))
        expected.append(model.readout(model.norm(state)).squeeze(-1))
    torch.testing.assert_close(model(fc), torch.stack(expected), rtol=0, atol=1e-12)


def test_first_layers_self_attention_is_the_same_for_every_scan_and_token() -> None:
    layer = tiny().eval().layers[0].self_attention
    out = layer(torch.zeros(3, 7, 64), torch.randn(7, 64))
    assert torch.allclose(out, out[0, 0].expand_as(out), atol=1e-6)


def test_padded_scans_change_no_other_scan() -> None:
    model = tiny(dropout=0.0).double()
    fc = torch.randn(3, 12, 12).double()
    padded = torch.cat([fc, torch.randn(2, 12, 12).double() * 100])
    valid = torch.tensor([1.0, 1, 1, 0, 0])
    torch.testing.assert_close(model(padded, valid_B=valid)[:, :3], model(fc), rtol=0, atol=1e-12)


def test_edge_branch_starts_at_zero_and_sees_centred_edges() -> None:
    fc = torch.randn(3, 12, 12)
    torch.manual_seed(0)
    plain, branched = tiny().eval(), tiny(edge_branch=True).eval()
    branched.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(plain(fc), branched(fc))
    branch = branched.edge_branch
    assert branch is not None
    with torch.no_grad():
        branch.table.target_1.fill_(1.0)
        branch.centre.copy_(expand_edges(fc)[0])
    assert torch.allclose(branch(fc, (1,))[0], torch.zeros(2), atol=1e-6)
    assert not torch.allclose(branch(fc, (1,))[1], torch.zeros(2))


def expand_edges(fc: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.triu_indices(12, 12, 1)
    return fc[:, rows, columns]


def test_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean '147m'"):
        resolve(ModelConfig(preset="147mb"), 116, (1,))


def gradients(model: LCM, fc: torch.Tensor) -> list[torch.Tensor]:
    torch.manual_seed(5)
    out = model(fc)
    (out * torch.arange(out.numel()).cos().view_as(out)).sum().backward()
    return [out.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def test_checkpointed_layers_give_the_same_numbers_bit_for_bit_with_dropout_on() -> None:
    fc = torch.randn(3, 12, 12)
    plain, checkpointed = tiny(), tiny()
    checkpointed.checkpointing = True
    for a, b in zip(gradients(plain, fc), gradients(checkpointed, fc), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("formulation", ["projected", "flash", "absorbed"])
def test_a_masked_constant_region_is_as_good_as_absent(formulation: str) -> None:
    model = tiny(attention=formulation, mask_constant=True).double().eval()
    fc = torch.randn(2, 12, 12).double()
    fc[0, 3] = fc[0, :, 3] = 0
    memory = model.embedding(fc, None)
    before = model(fc)
    other = model.embedding.forward
    model.embedding.forward = lambda *a: torch.where(
        torch.arange(12)[:, None] == 3, 99.0, other(*a)
    )  # type: ignore[method-assign]
    assert torch.allclose(model(fc)[:, 0], before[:, 0])  # what stands in its row is not seen
    assert not torch.allclose(model(fc)[:, 1], before[:, 1])
    assert memory.shape == (2, 12, 64)


def test_a_scan_of_zeros_alone_is_no_nan_when_regions_are_masked() -> None:
    model = tiny(mask_constant=True)
    assert model(torch.zeros(2, 12, 12)).isfinite().all()


def test_only_what_trains_gets_a_gradient() -> None:
    model = tiny(attention="absorbed")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("tokens."))
    model(torch.randn(3, 12, 12)).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("tokens.")


def test_evaluation_does_not_hang_on_how_training_was_rounded() -> None:
    """As when the ranks are more: the same scans in another order of summation, then evaluation.
    The bias before the norm is the one weight whose gradient would be rounding alone."""
    scans, labels = torch.randn(24, 12, 12), torch.randn(24)
    evaluated = []
    for order in (torch.arange(24), torch.arange(24).flip(0)):
        model = tiny(dropout=0.0)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(40):
            optimizer.zero_grad()
            (model(scans[order]).mean((0, 2)) - labels[order]).square().mean().backward()
            optimizer.step()
        bias = model.embedding.linear.bias
        assert bias.grad is not None and not bias.grad.any()  # zero, not absent: DDP waits for it
        evaluated.append(model.eval()(scans))
    torch.testing.assert_close(evaluated[0], evaluated[1], rtol=1e-4, atol=1e-5)


def test_the_bias_before_the_norm_has_its_gradient_in_evaluation() -> None:
    model = tiny().eval()
    model(torch.randn(3, 12, 12)).sum().backward()
    assert model.embedding.linear.bias.grad.any()
