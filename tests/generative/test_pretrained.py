"""PretrainedDecoder: what a stranger's decoder may look like."""

import pytest
import torch

from sklearn_qavi.generative import PretrainedDecoder, find_latent_dim


def _decoder(n_out: int = 6) -> torch.nn.Sequential:
    with torch.random.fork_rng():
        return torch.nn.Sequential(
            torch.nn.Linear(3, 5), torch.nn.Dropout(), torch.nn.Linear(5, n_out)
        )


def test_latent_size_is_read_from_the_module() -> None:
    assert find_latent_dim(_decoder()) == 3
    named = torch.nn.Identity()
    named.latent_dim = 7
    assert find_latent_dim(named) == 7
    with pytest.raises(ValueError, match="neither a latent_dim"):
        find_latent_dim(torch.nn.Identity())


def test_the_copy_is_in_evaluation_mode_and_the_module_is_left_alone() -> None:
    module = _decoder().train()
    member = PretrainedDecoder(module, "gaussian", 3).members_[0]
    z = torch.ones(4, 2, 3)
    assert member.decode(z).equal(member.decode(z))  # no dropout
    assert module.training
    with torch.no_grad():
        module[0].weight.zero_()
    assert not member.decoder[0].weight.equal(module[0].weight)


def test_wrong_number_of_outputs_is_told() -> None:
    with pytest.raises(ValueError, match=r"returns 5 numbers a row, but 3 columns under.*take 6"):
        PretrainedDecoder(_decoder(5), "gaussian", 3)


def test_likelihoods_are_checked() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        PretrainedDecoder(_decoder(), "histogram", 3)
    with pytest.raises(ValueError, match="names 2 columns, but n_features is 3"):
        PretrainedDecoder(_decoder(), ["gaussian", "student_t"], 3)


def test_units_are_the_callers() -> None:
    model = PretrainedDecoder(
        _decoder(), "gaussian", 3, mean=[1.0, 2.0, 3.0], scale=[1.0, 10.0, 2.0]
    )
    values = model.standardise(torch.tensor([[2.0, 12.0, 3.0]]).numpy())
    assert values.tolist() == [[1.0, 1.0, 0.0]]
    assert model.unstandardise(values).tolist() == [[2.0, 12.0, 3.0]]
