"""Hierarchical networks: layer strings and the walk down."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from _published_weights import DECODER, ENCODER
from sklearn_qavi._random import torch_generator
from sklearn_qavi.generative import make_image_likelihood
from sklearn_qavi.generative._hierarchical import (
    HierarchicalArchitecture,
    HierarchicalNetwork,
    parse_decoder_layers,
    parse_encoder_layers,
)


def architecture(**options: Any) -> HierarchicalArchitecture:
    shape = options.pop("image_shape", (1, 8, 8))
    layers = {"encoder_layers": ENCODER, "decoder_layers": DECODER, "width": 8}
    return HierarchicalArchitecture(shape, **{**layers, "latent_channels": 2, **options})


def network(**options: Any) -> HierarchicalNetwork:
    """Return a network whose weights all matter."""
    sizes = architecture(**options)
    likelihood = make_image_likelihood("gaussian", sizes.image_shape, scale="decoder")
    generator = torch_generator(0)
    made = HierarchicalNetwork(likelihood, sizes, generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made.double().eval().requires_grad_(False)


def normals(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch_generator(seed), dtype=torch.float64)


class TestLayerStrings:
    def test_encoder(self) -> None:
        expected = [(32, 1)] * 2 + [(32, 2), (16, 1), (16, 4), (4, 1)]
        assert parse_encoder_layers("32x2, 32d2,16x1,16d4,4") == expected

    def test_decoder(self) -> None:
        assert parse_decoder_layers("1x2,4m1,4x2,8m4") == [
            (1, None),
            (1, None),
            (4, 1),
            (4, None),
            (4, None),
            (8, 4),
        ]

    @pytest.mark.parametrize(
        ("function", "layers", "message"),
        [
            (parse_encoder_layers, "", "empty"),
            (parse_encoder_layers, "32x2,16x1", "followed by one at 16"),
            (parse_encoder_layers, "32y2", "no positive whole number"),
            (parse_decoder_layers, "1x0", "no positive whole number"),
            (parse_decoder_layers, "1x2,8m4", "takes up 4, which is not before it"),
            (parse_decoder_layers, "1,4m1,6m4", "no multiple"),
        ],
    )
    def test_what_cannot_be_read_is_said(self, function: Any, layers: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            function(layers)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"image_shape": (1, 9, 8)}, "larger than the decoder's last resolution, 8"),
            ({"encoder_layers": "16x1,16d2,8d2,4d4,1"}, "start at resolution 16"),
            ({"encoder_layers": "8x1,8d2,4x1"}, r"never reach; they reach \[4, 8\]"),
            ({"widths": {8: 16}}, "must not"),
        ],
    )
    def test_networks_that_do_not_fit(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            architecture(**options).check()


class TestWalk:
    def test_codes_are_in_units_of_their_priors(self) -> None:
        made = network()
        codes = normals(3, made.latent_dim)
        layers = made.split_codes(codes)
        assert [layer.shape[1:] for layer in layers] == [
            (2, 1, 1),
            (2, 1, 1),
            (2, 4, 4),
            (2, 4, 4),
            (2, 8, 8),
        ]
        seen = []

        def step(layer: int, prior: tuple[Tensor, Tensor], posterior: Any) -> Any:
            seen.append(prior)
            return prior[0] + prior[1] * layers[layer], ()

        params, _ = made.descend(3, step)
        np.testing.assert_allclose(params, made.decode(codes), atol=1e-10)
        # the first prior is the same for all, later ones depend on the codes before
        assert float((seen[0][0] - seen[0][0][:1]).abs().max()) == 0.0
        assert float((seen[1][0] - seen[1][0][:1]).abs().max()) > 1e-4

    def test_a_new_network_has_standard_priors(self) -> None:
        sizes = architecture()
        likelihood = make_image_likelihood("gaussian", sizes.image_shape, scale="decoder")
        made = HierarchicalNetwork(likelihood, sizes, torch_generator(0))

        def step(layer: int, prior: tuple[Tensor, Tensor], posterior: Any) -> Any:
            assert float(prior[0].abs().max()) == 0.0
            assert float((prior[1] - 1.0).abs().max()) == 0.0
            return prior[0], ()

        with torch.no_grad():
            made.descend(2, step)

    def test_images_are_padded_and_cut_around_their_middle(self) -> None:
        made = network(image_shape=(1, 6, 5))
        x = torch.arange(30.0, dtype=torch.float64).view(1, -1) / 30
        padded = made.standardized(x)[0, 0] * made.scale + made.shift
        np.testing.assert_allclose(padded[1:7, 1:6].flatten(), x[0])
        outside = padded.clone()
        outside[1:7, 1:6] = made.shift
        np.testing.assert_allclose(outside, made.shift)
        assert made.decode(normals(2, made.latent_dim)).shape == (2, 60)

    def test_a_row_is_decoded_to_the_same_bits_among_others(self) -> None:
        made = network().float()
        codes = normals(70, made.latent_dim).float()
        assert torch.equal(made.decode(codes)[66], made.decode(codes[66:67])[0])

    def test_masks_have_no_effect_before_training(self) -> None:
        made = network()
        reading = made.reading_masks().double()
        x, seen = torch.rand(2, 64, generator=torch_generator(3)).double(), normals(2, 64) > 0
        for ours, theirs in zip(made.features(x), reading.features(x, seen), strict=True):
            np.testing.assert_allclose(ours, theirs.detach())
        with torch.no_grad():
            reading.encoder.mask_conv.weight.fill_(0.1)
            changed = reading.features(x, seen)
        assert float((changed[-1] - made.features(x)[-1]).abs().max()) > 1e-4
