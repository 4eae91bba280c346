"""From the description of a distribution to the distribution, in a given dtype."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_flows as tfpf

tfb, tfd = tfp.bijectors, tfp.distributions


class Builder:
    """Builds parts of one dtype; the same calls draw the same constants."""

    def __init__(self, dtype: str, condition: list[int] | None) -> None:
        self.dtype = dtype
        self.condition = None if condition is None else tuple(condition)
        self.random = np.random.default_rng(0)

    def constant(self, *shape: int, scale: float = 0.3) -> np.ndarray:
        """Draws a constant."""
        return (scale * self.random.normal(size=shape)).astype(self.dtype)

    def net(self, image: bool = False) -> keras.Layer:
        """Makes a small smooth network."""
        if image:
            return tfpf.nets.ConvNet(4, "tanh", dtype=self.dtype)
        return tfpf.nets.MLP((4,), "tanh", dtype=self.dtype)

    # Bijectors.

    def bijector(self, spec: list, event: list[int], shape: tuple | None) -> object:
        """Builds a bijector; `shape` is that of the conditions of its parts."""
        kind = spec[0]
        if kind == "chain":
            return tfb.Chain([self.bijector(part, event, shape) for part in spec[1]])
        if kind == "invert":
            return tfb.Invert(self.bijector(spec[1], event, shape))
        if kind == "repeat":
            step = self.bijector(spec[1], event, shape)
            return tfpf.Repeat(step, spec[2], mode=spec[3])
        if kind == "blockwise":
            parts = [
                self.bijector(part, [n], shape)
                for part, n in zip(spec[1], spec[2], strict=True)
            ]
            return tfb.Blockwise(parts, spec[2])
        if kind == "encoded":
            inner = self.bijector(spec[1], event, (3,))
            layers = [
                keras.layers.Flatten(dtype=self.dtype),
                keras.layers.Dense(3, "tanh", dtype=self.dtype),
            ]
            encoder = keras.Sequential(layers)
            if len(shape) == 1:
                encoder = keras.layers.Dense(3, "tanh", dtype=self.dtype)
            return tfpf.EncodedCondition(inner, encoder, condition_shape=shape)
        return self.leaf(kind, event, shape if spec[1] else None)

    def leaf(self, kind: str, event: list[int], shape: tuple | None) -> object:
        """Builds a bijector without parts."""
        d = event[-1] if event else 1
        each = (d,) if event else ()
        dtype, image = self.dtype, len(event) == 3
        options = {"dtype": dtype}
        given = {**options, "condition_shape": shape}
        transforms = tfpf.transforms
        if kind in ("additive", "affine", "affine_sigmoid", "spline"):
            mask = tfpf.masks.channel(tuple(event)) if image else tfpf.masks.half(d)
            if kind == "additive":
                return tfpf.AdditiveCoupling(mask, self.net(image), **given)
            if kind == "spline":
                return tfpf.SplineCoupling(mask, self.net(image), bins=3, **given)
            scale = "sigmoid" if kind == "affine_sigmoid" else "soft_clamp"
            return tfpf.AffineCoupling(mask, self.net(image), log_scale=scale, **given)
        if kind == "coupling_mixture":
            mask = tfpf.masks.channel(tuple(event)) if image else tfpf.masks.half(d)
            mixture = transforms.LogisticMixture(2)
            return tfpf.Coupling(mask, self.net(image), mixture, **given)
        if kind in ("maf", "maf_spline"):
            made = tfpf.nets.MADE((4,), "tanh", dtype=dtype)
            what = "spline" if kind == "maf_spline" else "affine"
            return tfpf.MaskedAutoregressive(d, made, bins=3, transform=what, **given)
        if kind == "autoregressive":
            made = tfpf.nets.MADE((4,), "tanh", dtype=dtype)
            return tfpf.Autoregressive(made, transforms.SinhArcsinh(), d, **given)
        if kind.startswith("elementwise"):
            transform = {
                "elementwise_affine": transforms.Affine(),
                "elementwise_spline": transforms.RationalQuadraticSpline(3),
                "elementwise_mixture": transforms.LogisticMixture(2),
            }[kind]
            if shape is None:
                return tfpf.Elementwise(transform, tuple(event), **options)
            return tfpf.Elementwise(
                transform, tuple(event), shape, self.net(), **options
            )
        if kind == "conditional_affine":
            net = self.net()
            if len(shape) == 1:
                net = keras.layers.Dense(2 * d, dtype=dtype)
            return tfpf.ConditionalAffine(tuple(event), net, **given)
        channels = {
            "actnorm": tfpf.ActNorm,
            "batchnorm": tfpf.BatchNorm,
            "sinh_arcsinh": tfpf.SinhArcsinh,
            "leaky_relu": tfpf.LeakyReLU,
            "planar": tfpf.Planar,
            "radial": tfpf.Radial,
        }
        if kind in channels:
            return channels[kind](d, **options)
        if kind.startswith("conv_"):
            return tfpf.InvertibleConv1x1(d, kind=kind[5:], **options)
        if kind.startswith("linear_"):
            more = {"reflections": 2} if kind.endswith("householder") else {}
            return tfpf.Linear(d, kind=kind[7:], **more, **options)
        if kind == "multiscale":
            small = [event[0] // 2, event[1] // 2, 4 * d]
            step = tfpf.AffineCoupling(
                tfpf.masks.channel(tuple(small)), self.net(True), **options
            )
            level = tfb.Chain([tfpf.Squeeze(**options), step])
            flat = tfpf.MultiScale(tuple(event), [level])
            return tfb.Chain(
                [flat, tfb.Reshape([math.prod(event)], event_shape_in=event)]
            )
        if kind == "squeezed":
            step = tfpf.ActNorm(4 * d, **options)
            squeeze = tfpf.Squeeze(**options)
            return tfb.Chain([squeeze, step, tfb.Invert(tfpf.Squeeze(**options))])
        if kind == "matvec_tril":
            low = np.tril(self.constant(d, d)) + np.eye(d, dtype=dtype)
            return tfb.ScaleMatvecTriL(low)
        if kind == "tfp_spline":
            widths = np.full([d, 3], 2.0, dtype)
            slopes = 0.5 + np.abs(self.constant(d, 2))
            return tfb.RationalQuadraticSpline(widths, widths, slopes, range_min=-3)
        if kind == "reshape":
            inner = tfb.Scale(np.asarray(2.0, dtype))
            to = tfb.Reshape([d], event_shape_in=[d, 1])
            return tfb.Chain([to, inner, tfb.Invert(to)])
        if kind == "scale_variable":
            return tfb.Scale(tf.Variable(1.0 + self.constant(*each), dtype=dtype))
        if kind == "reversal":
            return tfb.Permute(np.arange(d)[::-1].copy())
        plain = {
            "scale": lambda: tfb.Scale(1.0 + np.abs(self.constant(*each))),
            "scale_one": lambda: tfb.Scale(
                1.0 + np.abs(self.constant(*each[:1] and (1,)))
            ),
            "shift": lambda: tfb.Shift(self.constant(*each)),
            "softplus": tfb.Softplus,
            "tanh": tfb.Tanh,
            "sigmoid": tfb.Sigmoid,
            "exp": tfb.Exp,
            "cumsum": tfb.Cumsum,
        }
        return plain[kind]()

    # Distributions.

    def distribution(self, spec: list) -> tfd.Distribution:
        """Builds a distribution."""
        kind = spec[0]
        if kind == "base":
            return self.base(*spec[1:])
        inner = spec[1]
        if kind == "transformed":
            base = self.distribution(inner)
            event = list(base.event_shape)
            bijector = self.bijector(spec[2], event, self.condition)
            return tfd.TransformedDistribution(base, bijector)
        if kind == "mixture":
            parts = [self.distribution(part) for part in inner]
            return tfd.Mixture(tfd.Categorical(self.constant(*spec[2], 2)), parts)
        if kind == "mixture_same_family":
            weights = tfd.Categorical(self.constant(*spec[2], 2))
            return tfd.MixtureSameFamily(weights, self.distribution(inner))
        if kind == "batch_reshape":
            return tfd.BatchReshape(self.distribution(inner), spec[2])
        if kind == "sample":
            return tfd.Sample(self.distribution(inner), spec[2])
        return tfd.Independent(self.distribution(inner), 1)

    def base(self, kind: str, event: list, batch: list) -> tfd.Distribution:
        """Builds a distribution without parts."""
        d = event[0] if len(event) == 1 else 0
        bases = tfpf.bases
        if not batch and d:
            made = {
                "standard_normal": lambda: bases.standard_normal(d, dtype=self.dtype),
                "diagonal_normal": lambda: bases.diagonal_normal(d, dtype=self.dtype),
                "full_normal": lambda: bases.full_normal(d, dtype=self.dtype),
                "student_t": lambda: bases.student_t(d, dtype=self.dtype),
                "normal_mixture": lambda: bases.normal_mixture(d, 2, dtype=self.dtype),
            }
            if kind in made:
                return made[kind]()
        shape = (*batch, *event)
        loc, one = self.constant(*shape), np.asarray(1.0, self.dtype)
        if kind == "tril":
            low = np.tril(self.constant(d, d)) + np.eye(d, dtype=self.dtype)
            return tfd.MultivariateNormalTriL(loc, low)
        if kind == "diagonal_normal" and d:
            return tfd.MultivariateNormalDiag(loc, np.full_like(loc, 0.8))
        single = {
            "logistic": lambda: tfd.Logistic(loc, one),
            "uniform": lambda: tfd.Uniform(loc, loc + one),
            "student_t": lambda: tfd.StudentT(5 * one, loc, one),
            "diagonal_normal": lambda: tfd.Normal(loc, tf.Variable(one)),
        }.get(kind, lambda: tfd.Normal(loc, one))()
        return tfd.Independent(single, len(event)) if event else single
