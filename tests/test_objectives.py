import pytest
import torch
import torch.nn.functional as F

from lcm_scale.objectives import TargetLoss, evaluation_read, losses, read
from lcm_scale.vocabulary import group, scalar, sex

TERMS = [
    TargetLoss(group("diagnosis", ["CN", "AD"])),
    TargetLoss(sex()),
    TargetLoss(scalar(), 1e-4),
]
NAN = float("nan")


def setup(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, 6, generator=generator).double().requires_grad_()
    labels = torch.tensor([[1, 0, 60.0], [2, NAN, 70], [0, 1, NAN], [1, 1, 80]]).double()
    known = torch.isfinite(labels).double()
    return logits, labels, known / known.sum(0)


def total(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, readout: str
) -> torch.Tensor:
    return losses(read(logits, labels, TERMS, readout), labels, weights, TERMS)


def test_a_scalar_with_a_log_scale_is_learnt_as_its_logarithm_and_read_in_its_unit() -> None:
    logits, labels, weights = setup()
    term = [TERMS[0], TERMS[1], TargetLoss(scalar("rt", log=True), 0.5, centre=4.0, scale=0.3)]
    learnt = logits.mean(0)[:, 5] * 0.3 + 4
    seen = read(logits, labels, term, "mean")
    torch.testing.assert_close(seen[2][:, 0], learnt)
    expected = 0.5 * ((learnt - labels[:, 2].log()) / 0.3)[[0, 1, 3]].square().mean()
    found = losses(seen, labels, weights, term)
    torch.testing.assert_close(found[2], expected)
    torch.testing.assert_close(evaluation_read(logits, term, "mean")[2][:, 0], learnt.exp())
    found.sum().backward()  # the scan without a label has no gradient, and no NaN
    assert torch.isfinite(logits.grad).all() and not logits.grad[:, 2, 5].any()


def test_mean_readout_is_the_published_sum_of_means_over_known_labels() -> None:
    logits, labels, weights = setup()
    mean = logits.mean(0)
    expected = torch.stack(
        [
            F.cross_entropy(mean[:, :3], labels[:, 0].long()),
            F.cross_entropy(mean[[0, 2, 3], 3:5], labels[[0, 2, 3], 1].long()),
            1e-4 * (mean[[0, 1, 3], 5] - labels[[0, 1, 3], 2]).square().mean(),
        ]
    )
    torch.testing.assert_close(total(logits, labels, weights, "mean"), expected)


def test_adaptive_readout_takes_all_logits_of_the_layer_whose_true_logit_is_largest() -> None:
    logits, labels, weights = setup()
    expected = 0.0
    for b in range(4):
        true = int(labels[b, 0])
        layer = max(range(3), key=lambda layer: logits[layer, b, true].item())
        expected += F.cross_entropy(logits[layer, b, :3][None], torch.tensor([true])) / 4
    loss = total(logits, labels, weights, "adaptive")
    torch.testing.assert_close(loss[0], expected)
    loss[0].backward()
    reached = (logits.grad[:, :, :3] != 0).any(2).sum(0)
    assert reached.tolist() == [1, 1, 1, 1]  # the gradient reaches one layer a scan
    torch.testing.assert_close(
        loss[2], total(logits, labels, weights, "mean")[2]
    )  # age stays the mean


def test_a_batch_without_any_sex_or_age_contributes_zero_not_nan() -> None:
    logits, labels, _ = setup()
    labels[:, 1:] = NAN
    weights = torch.tensor([[0.25, 0, 0]] * 4).double()
    loss = total(logits, labels, weights, "adaptive")
    assert torch.isfinite(loss).all() and loss[1] == 0 and loss[2] == 0
    loss.sum().backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad[:, :, 3:].any()


@pytest.mark.parametrize(
    ("readout", "classes"), [("adaptive", "max"), ("mean", "mean"), ("last", "last")]
)
def test_evaluation_reads_without_labels(readout: str, classes: str) -> None:
    logits, _, _ = setup()
    diagnosis, sex_logits, age = evaluation_read(logits, TERMS, readout)
    by = {"max": logits.amax(0), "mean": logits.mean(0), "last": logits[-1]}[classes]
    torch.testing.assert_close(diagnosis, by[:, :3])
    torch.testing.assert_close(sex_logits, by[:, 3:5])
    torch.testing.assert_close(age, (logits[-1] if readout == "last" else logits.mean(0))[:, 5:])


def test_standardised_age_is_predicted_in_years_and_scored_in_its_scale() -> None:
    logits, labels, weights = setup()
    term = [*TERMS[:2], TargetLoss(scalar(), 1.0, centre=70.0, scale=10.0)]
    years = read(logits, labels, term, "mean")[2]
    torch.testing.assert_close(years[:, 0], 70 + 10 * logits.mean(0)[:, 5])
    expected = ((labels[[0, 1, 3], 2] - 70) / 10 - logits.mean(0)[[0, 1, 3], 5]).square().mean()
    torch.testing.assert_close(
        losses(read(logits, labels, term, "mean"), labels, weights, term)[2], expected
    )
