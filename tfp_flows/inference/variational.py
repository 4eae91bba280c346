"""`VariationalModel`: fits a flow to an unnormalized density by Keras's `fit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.inference.surrogate import dtype_of, flat_target, surrogate_posterior
from tfp_flows.internal.arguments import (
    Arrays,
    Config,
    Seed,
    TensorLike,
    checked_choice,
    checked_instance,
    checked_integer,
    invalid,
)
from tfp_flows.internal.compat import Holder
from tfp_flows.internal.seeds import stateless_seed
from tfp_flows.training import sampling
from tfp_flows.training.data import checked_batch_size, named_arguments
from tfp_flows.training.model import FlowModel

_GRADIENTS = tfp.vi.GradientEstimators
# TFP's kind of gradient, and how many draws a term has where nothing is said.
ESTIMATORS = {
    "reparameterization": (_GRADIENTS.REPARAMETERIZATION, 1),
    "sticking_the_landing": (_GRADIENTS.DOUBLY_REPARAMETERIZED, 1),
    "score_function": (_GRADIENTS.SCORE_FUNCTION, 1),
    "importance": (_GRADIENTS.REPARAMETERIZATION, 8),
    "doubly_reparameterized": (_GRADIENTS.DOUBLY_REPARAMETERIZED, 8),
}
_SINGLE = [name for name, (_, draws) in ESTIMATORS.items() if draws == 1]
_DRAWS = "draws"  # the key of an input that asks for as many draws as it has rows
_OF_DATA = ("nll", "bits_per_dim")
_WITH_DATA = ("y", "sample_weight", "class_weight", "validation_split")
_ADAPTED = 1024  # draws from which weights that wait for data are initialized

Target = tfd.Distribution | Callable[[tf.Tensor], tf.Tensor]


def _asks_for_draws(inputs: Arrays) -> bool:
    return isinstance(inputs, dict) and _DRAWS in inputs


@keras.saving.register_keras_serializable(package="tfp_flows")
class VariationalModel(FlowModel):
    """A `FlowModel` that `fit` without data brings to an unnormalized density `p`.

        loss = mean(log q(z) - log p(z)),    z ~ q        [nats]

    (reverse Kullback-Leibler divergence up to a constant: minus the evidence's lower
    bound). `fit(epochs=..., steps_per_epoch=...)` draws `batch_size` terms in each
    step and reports `elbo`, the mean of `log p - log q`, which is at most the logarithm
    of the normalizer. `estimator` says how the gradient is taken:

    * `"reparameterization"`: through the draws;
    * `"sticking_the_landing"`: through the draws alone, without the score of `q`: no
      noise is left where `q = p`. It inverts the flow once more: couplings suit it;
    * `"score_function"`: from values of `p` alone, where it has no gradient. Noisy;
    * `"importance"`: each term is a bound by `importance_samples` draws,
      `log mean_k p(z_k) / q(z_k)`, which is tighter, and tolerates a wider `q`;
    * `"doubly_reparameterized"`: the same bound, without the score of `q`.

    With data, such as draws of MCMC, `fit`, `evaluate` and `predict` are those of a
    `FlowModel`: forward divergence, which covers every mode that the draws visited.

    Args:
        distribution: A flow `q` of vectors, without conditions. One whose draws and
            their densities take one pass is fastest: couplings, `tfpf.maf(d,
            inverse=True)`.
        target: A function from draws `[n, *event]` to log-densities `[n]`; or a TFP
            distribution, such as a joint one pinned to data, of which `q` is then over
            the unconstrained values (see `tfpf.flat_target`). None after loading: it is
            not saved. Its own variables are not trained.
        estimator: See above.
        importance_samples: Draws of a term, for the last two.
        anneal: Function from the number of the step to an inverse temperature `beta` in
            (0, 1]: `beta log p` stands for `log p` in the loss, so that modes are found
            before they part. A Keras schedule does:
            `keras.optimizers.schedules.PolynomialDecay(0.01, steps, 1.0)`.
        seed: Integer from which the draws follow; None for any.
        **kwargs: Passed on to `keras.Model`.

    Reference: Rezende, Mohamed: Variational inference with normalizing flows, 2015,
    arXiv:1505.05770. Roeder, Wu, Duvenaud: Sticking the landing, 2017,
    arXiv:1703.09194. Burda, Grosse, Salakhutdinov: Importance weighted autoencoders,
    2016, arXiv:1509.00519. Tucker et al.: Doubly reparameterized gradient estimators
    for Monte Carlo objectives, 2019, arXiv:1810.04152.

    Example:
        >>> import tfp_flows as tfpf
        >>> target = tfd.MultivariateNormalDiag([1.0, -1.0], [0.5, 2.0])
        >>> flow = tfpf.real_nvp((2,), couplings=2, hidden_units=(8,))
        >>> model = VariationalModel(flow, target.log_prob, seed=0)
        >>> model.compile("adam")
        >>> sorted(model.fit(epochs=1, steps_per_epoch=2, verbose=0).history)
        ['elbo', 'loss']
        >>> draws, log_weights = model.importance_sample(100, seed=0)
        >>> log_weights.shape
        (100,)
    """

    rising = ("elbo",)

    def __init__(
        self,
        distribution: tfd.Distribution,
        target: Target | None = None,
        *,
        estimator: str = "reparameterization",
        importance_samples: int | None = None,
        anneal: Callable[[tf.Tensor], TensorLike] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        checked_choice("estimator", estimator, ESTIMATORS)
        default = ESTIMATORS[estimator][1]
        samples = default if importance_samples is None else importance_samples
        checked_integer("importance_samples", samples)
        if estimator in _SINGLE and samples > 1:
            must = "be 1 or None but for 'importance' and 'doubly_reparameterized'"
            raise invalid("importance_samples", must, samples)
        super().__init__(distribution, **kwargs)
        if self.condition_shape is not None:
            must = "take no condition: bind one by `tfpf.condition(flow, c)`"
            raise invalid("distribution", must, distribution)
        through = distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
        if not through and estimator != "score_function":
            must = "have reparameterized draws, or `estimator` be 'score_function'"
            raise invalid("distribution", must, distribution)
        if anneal is not None:
            checked_instance("anneal", anneal, Callable, "a function of the step")
        self._estimator, self._importance_samples = estimator, samples
        self._anneal, self._seed = Holder(anneal), seed
        self._draws_seed = keras.random.SeedGenerator(seed)
        dtype = "float64" if distribution.dtype == tf.float64 else None
        self._elbo = keras.metrics.Mean(name="elbo", dtype=dtype)
        self.target = target

    @property
    def target(self) -> Target | None:
        """What is approximated; None after loading, to be set before `fit`."""
        return self._target.value

    @target.setter
    def target(self, target: Target | None) -> None:
        self._target, self._log_prob = Holder(target), Holder(target)
        if _is_distribution(target):
            surrogate_posterior(target, self._distribution)  # refuses other sizes
            self._log_prob = Holder(flat_target(target).log_prob)
        elif target is not None:
            words = "a function from draws to log-densities, or a distribution"
            checked_instance("target", target, Callable, words)
        self.train_function = self.test_function = None  # were traced with the old one

    @property
    def posterior(self) -> tfd.Distribution:
        """The flow, over the structure and supports of a target distribution."""
        if _is_distribution(self.target):
            return surrogate_posterior(self.target, self._distribution)
        return self._distribution

    # Keras's methods.

    def fit(
        self, x: Arrays = None, y: Arrays = None, *args: object, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains the flow; see `keras.Model.fit`.

        Args:
            x: None: the flow is brought to the target. Draws `[n, *event]`: it is
                trained by their likelihood.
            y: None.
            *args: Further arguments of `keras.Model.fit`, in its order. Without `x`,
                `batch_size` is the number of terms of a step, by default 32, and
                `steps_per_epoch` has to be given.
            **kwargs: The same by name.
        """
        given = named_arguments(keras.Model.fit, x, y, *args, **kwargs)
        if given.get("x") is None:
            checked_integer("steps_per_epoch", given.get("steps_per_epoch"))
            if self.waits_for_data():
                seed = stateless_seed(self._seed)
                shape, dtype = [_ADAPTED, *self.event_shape], self.distribution.dtype
                self.adapt(tf.random.stateless_normal(shape, seed, dtype=dtype))
            given["x"] = self._requests(given)
        return super().fit(**given)

    def evaluate(
        self, x: Arrays = None, y: Arrays = None, *args: object, **kwargs: Any
    ) -> float | list | dict:
        """Returns loss and metrics; without `x` those of `steps` batches of draws."""
        given = named_arguments(keras.Model.evaluate, x, y, *args, **kwargs)
        if given.get("x") is None:
            given["x"] = self._requests(given)
            given["steps"] = checked_integer("steps", given.get("steps") or 1)
        return super().evaluate(**given)

    def _requests(self, given: Config) -> tf.data.Dataset:
        """Returns batches without end that ask for draws; takes out their size."""
        passed = given | {"validation_split": given.get("validation_split") or None}
        for name in _WITH_DATA:
            if passed.get(name) is not None:
                must = "go with data `x`: without, the flow is fitted to its own draws"
                raise invalid(name, must, passed[name])
        batch_size = checked_batch_size(given.pop("batch_size", None))
        self._check_target()
        if not self.run_eagerly:
            self._check_traced()
        rows = tf.zeros([batch_size or 32])
        return tf.data.Dataset.from_tensors({_DRAWS: rows}).repeat()

    def check(self, batch: Arrays) -> None:
        """Refuses data of another shape; those that ask for draws have any."""
        if not _asks_for_draws(keras.utils.unpack_x_y_sample_weight(batch)[0]):
            super().check(batch)

    def call(self, inputs: Arrays, training: bool | None = None) -> Arrays:
        """Returns `log_prob` of data; where draws are asked for, loss, elbo, draws."""
        if not _asks_for_draws(inputs):
            return super().call(inputs, training)
        rows = inputs[_DRAWS]
        n = tf.shape(rows)[0] if rows.shape[0] is None else rows.shape[0]
        seed = tf.cast(self._draws_seed.next(), tf.int32)
        return self._drawn(n, seed, bool(training))

    def _drawn(
        self, n: int | tf.Tensor, seed: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        """Draws `n` terms; returns their mean loss `[1]`, elbo `[1]`, and the draws."""
        kind, samples = _GRADIENTS.REPARAMETERIZATION, 1
        beta = tf.ones([], self._distribution.dtype)
        if training:
            kind = ESTIMATORS[self._estimator][0]
            samples = self._importance_samples
            if self._anneal.value is not None:
                step = tf.convert_to_tensor(self.optimizer.iterations)
                beta = tf.cast(self._anneal.value(step), beta.dtype)
        surrogate = _Surrogate(self._distribution)
        log_p: list[tf.Tensor] = []

        def log_prob(z: tf.Tensor, seed: Seed = None) -> tf.Tensor:
            log_p.append(tf.cast(self._log_prob.value(z), z.dtype))
            return beta * log_p[0]

        doubly = kind == _GRADIENTS.DOUBLY_REPARAMETERIZED
        loss = tfp.vi.monte_carlo_variational_loss(
            log_prob,
            surrogate,
            sample_size=n,
            importance_sample_size=samples,
            gradient_estimator=kind,
            stopped_surrogate_posterior=_Stopped(surrogate) if doubly else None,
            seed=seed,
        )
        elbo = tf.reduce_mean(log_p[0] - surrogate.log_q)
        return {"loss": loss[tf.newaxis], "elbo": elbo, _DRAWS: surrogate.draws}

    def _check_target(self) -> None:
        """Refuses a target that is missing or does not give each draw one value."""
        if self.target is None:
            must = "be set before the flow is fitted to it: `model.target = log_prob`"
            raise invalid("target", must)
        # Of two numbers of draws, since one may be that of a target's own data.
        for n in (2, 3):
            z = self._distribution.sample(n, seed=(0, 0))
            must = "return one log-density for each draw"
            given = f"for draws of shape {z.shape}"
            try:
                shape = tf.convert_to_tensor(self._log_prob.value(z)).shape
            except (TypeError, ValueError, tf.errors.OpError) as e:
                raise invalid("target", must, got=f"{_first_line(e)} {given}") from e
            if shape != z.shape[:1]:
                raise invalid("target", must, got=f"shape {shape} {given}")

    def _check_traced(self) -> None:
        """Refuses a target that cannot be traced, which Keras's step does."""
        spec = tf.TensorSpec([2, *self.event_shape], self._distribution.dtype)
        log_prob = tf.function(self._log_prob.value, autograph=False)
        try:
            log_prob.get_concrete_function(spec)
        except (AttributeError, NotImplementedError, TypeError, ValueError) as e:
            must = "be made of TensorFlow's operations, or the model be compiled with "
            must += "`run_eagerly=True`"
            raise invalid("target", must, got=_first_line(e)) from e

    def example_losses(self, y_pred: Arrays) -> tf.Tensor:
        """Returns the mean loss of draws `[1]`, else minus the likelihoods `[n]`."""
        return y_pred["loss"] if isinstance(y_pred, dict) else -y_pred

    def compute_loss(
        self,
        x: Arrays = None,
        y: Arrays = None,
        y_pred: Arrays = None,
        sample_weight: TensorLike | None = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the loss, in nats; where it is not finite the draws are looked at."""
        x = y_pred[_DRAWS] if isinstance(y_pred, dict) else x
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def where_not_finite(self, *batch: tf.Tensor) -> str:
        """Says whether it is the target that is not finite at draws."""
        if self.target is not None and np.isfinite(batch[0]).all():
            found = np.isfinite(self._log_prob.value(batch[0]))
            if not found.all():
                bad = np.count_nonzero(~found)
                return f"the target is not finite at {bad} of {len(found)} draws."
        return super().where_not_finite(*batch)

    def compute_metrics(
        self,
        x: Arrays,
        y: Arrays,
        y_pred: Arrays,
        sample_weight: TensorLike | None = None,
    ) -> dict[str, tf.Tensor]:
        """Returns `loss` and `elbo` of draws, else those of the likelihood."""
        if isinstance(y_pred, dict):
            self._elbo.update_state(y_pred["elbo"])
            given = (x, y, y_pred["loss"], sample_weight)
            results = keras.Model.compute_metrics(self, *given)
            return {k: v for k, v in results.items() if k not in _OF_DATA}
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        results.pop("elbo")
        return results

    def importance_sample(self, n: int, seed: Seed = None) -> tuple[Arrays, np.ndarray]:
        """Draws from the posterior; returns draws and `log p - log q`, `[n]`.

        `tfpf.inference.psis`, `evidence` and `effective_sample_size` take the second.
        The draws have the structure of a target distribution, `[n, ...]`.
        """
        checked_integer("n", n, 2)
        self._check_target()
        drawn = self._distribution.experimental_sample_and_log_prob
        z, log_q = drawn(n, seed=stateless_seed(seed))
        log_weights = tf.cast(self._log_prob.value(z), z.dtype) - log_q
        if _is_distribution(self.target):
            z = tf.cast(z, dtype_of(self.target))
            z = flat_target(self.target).unpack.forward(z)
        draws = tf.nest.map_structure(lambda part: part.numpy(), z)
        return draws, log_weights.numpy().astype(np.float64)

    def described(self) -> Config:
        """Describes the constructor's arguments but `target` and `anneal`."""
        return {
            **super().described(),
            "estimator": self._estimator,
            "importance_samples": self._importance_samples,
            "seed": self._seed,
        }


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}, {str(error).splitlines()[0]}"


def _is_distribution(target: object) -> bool:
    """Whether a target is TFP's; pinned joint ones are no `tfd.Distribution`."""
    return hasattr(target, "experimental_default_event_space_bijector")


class _Surrogate:
    """A flow that remembers its draws and their log-densities."""

    def __init__(self, flow: tfd.Distribution) -> None:
        self._flow = flow
        self.reparameterization_type = flow.reparameterization_type

    def experimental_sample_and_log_prob(
        self, shape: Any, seed: Seed = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        self.draws, self.log_q = self._flow.experimental_sample_and_log_prob(
            shape, seed=seed
        )
        return self.draws, self.log_q

    def sample(self, shape: Any, seed: Seed = None) -> tf.Tensor:
        # Of a copy, for which TFP's cache has no latent that a gradient goes through.
        self.draws = tf.stop_gradient(self._flow.sample(shape, seed=seed))
        return self.draws

    def log_prob(self, z: tf.Tensor) -> tf.Tensor:
        self.log_q = sampling.log_prob(self._flow, z)
        return self.log_q


class _Stopped:
    """The flow's log-density with a gradient for the draws, not for the weights."""

    def __init__(self, surrogate: _Surrogate) -> None:
        self._surrogate = surrogate

    def log_prob(self, z: tf.Tensor) -> tf.Tensor:
        at = tf.stop_gradient(z)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(at)
            log_q = self._surrogate.log_prob(at)
        slope = tf.stop_gradient(tape.gradient(log_q, at))
        along = tf.reduce_sum(slope * (z - at), axis=range(1, len(z.shape)))
        return tf.stop_gradient(log_q) + along
