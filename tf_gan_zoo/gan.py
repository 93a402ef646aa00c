"""The base contract: a GAN is a Keras model that trains several players inside plain `fit()`.

A subclass says what its paper says: a config dataclass, `build_networks`, `make_optimizer`, the names of its
scalars, its `batch_spec`, and `train_step(batch)` with explicit gradient tapes. The base does the rest: one
built optimizer per player, replica and loss scaling, averaged weights, means over epoch and replicas,
stateless random draws, input checks, phases, and saving that keeps every optimizer and every seed.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import (
    checkpoints,
    files,
    fitting,
    player_optimizers,
    random,
    replacing,
    replicas,
    run_length,
    sizing,
)
from tf_gan_zoo.accumulation import GradientAccumulator, apply_if
from tf_gan_zoo.batch_spec import BatchSpec
from tf_gan_zoo.config import Config, ImageSize, closest
from tf_gan_zoo.endpoints import Endpoint, ServingFunction, smooth_pictures
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.paths import expand_unless_address

#: Where a weights file of Keras keeps the architectures of replaced networks.
_REPLACED = "replaced_networks"
#: And where the length of its run.
_SCHEDULE = "schedule"


class NamedBatch(dict[str, tf.Tensor]):
    """A batch whose fields are named and cast; what `train_step` and `test_step` receive."""


class GAN(keras.Model):
    """Base of every model in the zoo.

    A subclass defines `config_cls`, `log_names`, `build_networks`, `make_optimizer`, `batch_spec` and
    `train_step`; it may define `players`, `test_step`, `phases`, `ema_decays`, `batches_per_step`.

    Args:
        config: an instance of the class's `config_cls`; None takes the paper's defaults.
        name: Keras name; the registry name by default.
    """

    config_cls: ClassVar[type[Config]] = Config
    zoo_name: ClassVar[str] = "gan"
    #: Which arrangement of a dataset the model trains on, as `zoo.load_dataset(view=)` names it.
    view: ClassVar[str] = "images"
    #: Names of the scalars that `train_step` logs, in the order in which progress bars show them.
    log_names: ClassVar[tuple[str, ...]] = ()
    #: The network that users sample, translate with and export.
    public_name: ClassVar[str] = "generator"

    def __init__(self, config: Config | None = None, *, name: str | None = None) -> None:
        super().__init__(name=name or self.zoo_name)
        self.config = config or self.config_cls()
        sizing.require_fits(type(self), self.config)
        self.step = keras.Variable(
            0, dtype="int64", trainable=False, aggregation="only_first_replica", name="step"
        )
        with fitting.initial_conditions(self.config.precision, self.config.seed):
            networks = self.build_networks(self.config)
            ema = {f"{n}_ema": _frozen_copy(networks[n], f"{n}_ema") for n in self.ema_decays}
            self.build_state(self.config)
        self._network_names, self._ema_names = tuple(networks), tuple(ema)
        object.__setattr__(self, "stock_architectures", {})  # past Keras, which would track it
        for attribute, network in {**networks, **ema}.items():
            setattr(self, attribute, network)
        if self.config.accumulation_steps > 1:
            for player in self.players:
                setattr(self, f"{player}_accumulator", self._new_accumulator(player))
        for scalar in self.log_names:
            setattr(self, f"{scalar}_tracker", keras.metrics.Mean(name=scalar))
        self.phase = self.phases[0][0]
        self._schedule_is_free = self.config.schedule_steps is None
        self.built = True

    # ---------------------------------------------------------------- what a subclass writes

    def build_networks(self, config: Config) -> dict[str, keras.Model]:
        """The built networks by name, e.g. {"generator": ..., "discriminator": ...}."""
        raise TypeError(f"{type(self).__name__} must define build_networks(config).")

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        """A new optimizer for one player, with the paper's settings from `self.config`."""
        raise TypeError(f"{type(self).__name__} must define make_optimizer(player).")

    @property
    def batch_spec(self) -> BatchSpec:
        """The fields of a training batch."""
        raise TypeError(f"{type(self).__name__} must define the property batch_spec.")

    @property
    def data_keywords(self) -> dict[str, Any]:
        """Keywords of `zoo.load_dataset` that follow from the config, besides sizes and ranges."""
        return {}

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        """Player -> names of the networks its optimizer updates; one player per network by default."""
        return {name: (name,) for name in self._network_names}

    @property
    def ema_decays(self) -> dict[str, float | tf.Tensor]:
        """Network name -> decay, for networks whose averaged weights are kept as NAME_ema.

        A decay may be a scalar tensor that depends on `self.step`.
        """
        return {}

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        """(name, first step) of each training phase; `self.phase` is the name of the current one."""
        return (("adversarial", 0),)

    @property
    def batches_per_step(self) -> int:
        """Batches that one training step consumes; `fit` groups them, `split_batch` parts them."""
        return 1

    def build_state(self, config: Config) -> None:
        """Creates what a model keeps besides networks: image pools, control variables."""

    def before_training(self, last_step: int | None) -> None:
        """Called before the first step of `fit`; `last_step` is None if the data never end."""

    def before_first_step(self, dataset: tf.data.Dataset) -> None:
        """Called before step 0 of a run with its checked data, for starting values that follow from them."""

    def test_step(self, batch: NamedBatch) -> dict[str, tf.Tensor]:
        """Logs of one validation batch; nothing is updated."""
        raise TypeError(f"{type(self).__name__} defines no test_step, so evaluate() has nothing to report.")

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How well the model does its task on held-out examples; a name ending in _baseline is to be beaten.

        Args:
            examples: fields of `batch_spec` and, where the data have them, "labels".
        """
        return {}

    def training_notes(self) -> dict[str, str]:
        """What the record of a run must say of its training besides the config, by topic."""
        return {}

    # ---------------------------------------------------------------- networks

    @property
    def networks(self) -> Mapping[str, keras.Model]:
        """The trained networks by name, in order (read-only)."""
        return MappingProxyType({name: getattr(self, name) for name in self._network_names})

    @property
    def averaged_networks(self) -> Mapping[str, keras.Model]:
        """The averaged copies, named NETWORK_ema (read-only)."""
        return MappingProxyType({name: getattr(self, name) for name in self._ema_names})

    def __setattr__(self, name: str, value: Any) -> None:
        """Assigning one of `networks` replaces it, as `replace_network` does."""
        present = vars(self)
        if name in present and name in present.get("_network_names", ()):
            self.replace_network(name, value)
        elif name in present and name in present.get("_ema_names", ()):
            raise AttributeError(f"{name} follows {name.removesuffix('_ema')}: replace that network.")
        else:
            super().__setattr__(name, value)

    def replace_network(self, name: str, network: keras.Model) -> None:
        """Puts another network in the place of one of `networks`, e.g. `model.generator = mine`.

        Its averaged copy, if the model keeps one, begins as a copy of it. In a compiled model the players
        that it belongs to get new optimizers with the settings of the old ones; those start at update 0, so
        replace networks before training. `save` keeps the network whole. Networks made of layers that are
        not registered with Keras come back with `tf_gan_zoo.load(path, custom_objects=...)`.

        Args:
            name: one of `networks`.
            network: a built Functional or Sequential model with the inputs and outputs of the old one, whose
                names it gets. A Sequential model becomes a Functional of the same layers.

        Raises:
            ValueError: if there is no such network, for other inputs or outputs (naming both shapes), or
                variables that another network has, too.
            TypeError: for anything else than a built Functional or Sequential model.
        """
        if name not in self._network_names:
            near, known = closest(name, self._network_names), ", ".join(self._network_names)
            raise ValueError(f"no network named {name!r}.{near} Networks: {known}.")
        old = getattr(self, name)
        if network is old:
            return
        others = {n: other for n, other in self.networks.items() if n != name}
        network = replacing.fitted(network, old, name, others)
        self.stock_architectures.setdefault(name, replacing.describe(old))
        self._exchange(name, network)
        if f"{name}_ema" in self._ema_names:
            self._exchange(f"{name}_ema", _frozen_copy(network, f"{name}_ema"))
        self._forget_functions()
        for player in [p for p, names in self.players.items() if name in names]:
            self._begin_anew(player)
        self.after_replacement(name)

    def after_replacement(self, name: str) -> None:
        """Called after a network was replaced, to renew what a subclass has made of its variables."""

    def _exchange(self, attribute: str, layer: keras.layers.Layer) -> None:
        """Another layer under a known attribute, at the place of the old one among the model's layers."""
        self._tracker.replace_tracked_value("layers", getattr(self, attribute), layer)
        object.__setattr__(self, attribute, layer)

    def _forget_functions(self) -> None:
        """Compiled functions and composed networks hold the networks that they were made of."""
        self.train_function = self.test_function = self.predict_function = None
        vars(self).pop("origin", None)  # of published weights
        for cls in type(self).__mro__:
            for name, value in vars(cls).items():
                if isinstance(value, functools.cached_property):
                    vars(self).pop(name, None)

    def _begin_anew(self, player: str) -> None:
        """Sums and moments for the variables that a player has now."""
        if self.config.accumulation_steps > 1:
            self._exchange(f"{player}_accumulator", self._new_accumulator(player))
        optimizer = getattr(self, f"{player}_optimizer", None)
        if optimizer is None:
            return
        if done := int(optimizer.iterations.numpy()):
            warnings.warn(
                f"the optimizer of player {player!r} begins anew after {done} updates, and so does its "
                "learning-rate schedule.", stacklevel=4,
            )  # fmt: skip
        with self.distribute_strategy.scope():
            self._set_optimizer(player, player_optimizers.copied(optimizer))

    def public_network(self) -> keras.Model:
        """The network users get pictures from: its averaged copy where the paper keeps one."""
        averaged = f"{self.public_name}_ema"
        return getattr(self, averaged if averaged in self._ema_names else self.public_name)

    def player_variables(self, player: str) -> list[keras.Variable]:
        """The trainable variables of one player, those of its networks only."""
        names = self.players[player]
        return [v for name in names for v in getattr(self, name).trainable_variables]

    def _new_accumulator(self, player: str) -> GradientAccumulator:
        return GradientAccumulator(self.player_variables(player), self.config.accumulation_steps)

    def updated_variables(self, player: str) -> list[keras.Variable]:
        """Those of `player_variables` that take part in the current phase: all, unless a network grows."""
        return self.player_variables(player)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Runs the public network."""
        return self.public_network()(inputs, training=bool(training))

    # ---------------------------------------------------------------- export

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """What other programs may call, by signature name; the first is what phones get by default."""
        return {"serve": Endpoint(self.public_network())}

    @property
    def serving_functions(self) -> dict[str, ServingFunction]:
        """What a SavedModel offers besides: functions that draw random numbers or read strings."""
        return {}

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        """`count` inputs of an endpoint's network to try an export with: seeded pictures.

        Args:
            endpoint: one of `endpoints`.
            count: how many.
            sizes: input name -> (height, width) of the pictures it shall get.
            seed: the same seed gives the same inputs.
        """
        channels = {tensor.name: tensor.shape[-1] for tensor in endpoint.network.inputs}
        return {
            name: smooth_pictures((count, *size, channels[name]), endpoint.pictures[name], seed)
            for name, size in sizes.items()
        }

    def public_inputs(self, endpoint: Endpoint, batch: Any) -> dict[str, Any]:
        """What an endpoint's network gets of a training batch, by input name."""
        if not isinstance(batch, Mapping):
            first = batch[0] if isinstance(batch, (tuple, list)) else batch
            return dict(zip(endpoint.input_names, [first]))
        own = {n: n if n in batch else endpoint.fields.get(n, n) for n in endpoint.input_names}
        return {name: batch[field] for name, field in own.items() if field in batch}

    def export(
        self, filepath: str | Path, format: str | None = None, *, quantize: str | None = None,
        representative: Any = None, processing: bool = False, batch_size: int | None = None,
        image_size: ImageSize | None = None, signatures: Sequence[str] | None = None, strict: bool = True,
        verbose: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """Exports the public network, then runs the file and compares it with Keras.

        Beside the export lie its report (NAME.report.json: differences, size, operators, latency) and a
        model card (NAME.md).

        Args:
            filepath: a folder for "tf_saved_model", FILE.tflite for "litert", FILE.onnx for "onnx".
            format: "tf_saved_model", "litert" or "onnx"; by default what the path's ending says. Signatures
                are named after the task (`generate`, `translate`, `upscale`); a SavedModel holds all of them
                and serves the first by default, and `generate_seeded(seed, num_samples)` where the model
                samples.
            quantize: "float16" halves a .tflite file, "dynamic" (8-bit weights) quarters it, "int8" computes
                with integers, too.
            representative: inputs to calibrate int8 and to check with: a dataset of batches as in training,
                an array, or a dict by input name. By default seeded latents or pictures.
            processing: pictures are uint8 from 0 to 255 on both sides.
            batch_size: fixes the batch axis; None takes any.
            image_size: fixes height and width where the network takes pictures of any size.
            signatures: which endpoints; by default all in a SavedModel and the first elsewhere.
            strict: an export that is not exact enough is an error and leaves no file; False keeps it.
            verbose: print a summary.

        Returns:
            The report. Limits: float32 1e-4, float16 1e-2 of the range, "dynamic" and "int8" 30 dB PSNR.

        Raises:
            ValueError: for arguments that do not exist or do not go together.
            ExportError: if something is missing, or the export is not exact enough.
        """
        from tf_gan_zoo import export

        report = export.export_model(
            self, filepath, format, quantize=quantize, representative=representative,
            processing=processing, batch_size=batch_size, image_size=image_size, signatures=signatures,
            strict=strict,
        )  # fmt: skip
        if verbose:
            print(export.summary(report))
        return report

    # ---------------------------------------------------------------- compile and update

    def compile(
        self,
        optimizers: Any = None,
        *,
        optimizer: Any = None,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        run_eagerly: bool = False,
        **keras_arguments: Any,
    ) -> None:
        """Gives each player its optimizer and builds it, so that a resumed run finds every slot.

        Afterwards a player's optimizer is `model.PLAYER_optimizer` (`model.generator_optimizer`), and
        `model.optimizer` is a view of all, whose learning rate reads and sets theirs.

        Args:
            optimizers: player -> optimizer, for players that shall not have the paper's; or one optimizer for
                all players, each of which gets a copy with its settings. An optimizer may be a
                `keras.optimizers.Optimizer`, a name such as "adam" or a config of Keras.
            optimizer: the same, under Keras's name for it.
            steps_per_execution: training steps per call into TensorFlow.
            jit_compile: XLA; "auto" leaves the choice to Keras (off on CPU).
            run_eagerly: run step by step, for debugging.
            **keras_arguments: what else Keras's `compile` has (`loss`, `metrics`, ...) may only be None.

        Raises:
            ValueError: for a player or an optimizer that does not exist, one object for several players, or
                one that is built for other variables.
            TypeError: for an argument without effect.
        """
        players = list(self.players)
        player_optimizers.check_arguments(keras_arguments, players)
        if optimizers is not None and optimizer is not None:
            raise TypeError("compile() got optimizers= and optimizer=, which are the same: leave one out.")
        given = player_optimizers.by_player(optimizer if optimizers is None else optimizers, players)
        replicas.check_loops(self.distribute_strategy, steps_per_execution)
        super().compile(
            optimizer=None, steps_per_execution=steps_per_execution, jit_compile=jit_compile,
            run_eagerly=run_eagerly,
        )  # fmt: skip
        with self.distribute_strategy.scope():
            for player in players:
                self._set_optimizer(player, given.get(player) or self.make_optimizer(player))

    def _set_optimizer(self, player: str, optimizer: keras.optimizers.Optimizer) -> None:
        optimizer = player_optimizers.prepared(
            optimizer, self.config.precision, self.config.accumulation_steps
        )  # fmt: skip
        player_optimizers.build(optimizer, player, self.player_variables(player))
        setattr(self, f"{player}_optimizer", optimizer)

    @property
    def optimizer(self) -> player_optimizers.PlayerOptimizers | None:
        """A view of all players' optimizers; None before `compile`. One player's: `PLAYER_optimizer`."""
        found = {p: getattr(self, f"{p}_optimizer", None) for p in self.players}
        return None if None in found.values() else player_optimizers.PlayerOptimizers(found, self.step)

    @optimizer.setter
    def optimizer(self, value: Any) -> None:
        if value is not None:  # Keras sets None in its compile()
            raise AttributeError(
                "a model has an optimizer per player: call model.compile(optimizer), or "
                f"model.compile({{player: optimizer}}) for the players {', '.join(self.players)}."
            )

    def player_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        """The optimizer of one player."""
        return getattr(self, f"{player}_optimizer")

    def get_compile_config(self) -> dict[str, Any]:
        optimizers = {p: self.player_optimizer(p) for p in self.players}
        return {
            "optimizers": {
                p: keras.saving.serialize_keras_object(o) for p, o in optimizers.items()
            },
            "steps_per_execution": self.steps_per_execution,
            "jit_compile": self.jit_compile,
        }

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        config = dict(config)
        optimizers = config.pop("optimizers")
        self.compile(
            {p: keras.saving.deserialize_keras_object(o) for p, o in optimizers.items()}, **config
        )

    def update(
        self, player: str, tape: tf.GradientTape, loss: tf.Tensor, when: tf.Tensor | None = None
    ) -> None:
        """Updates one player's variables down the gradient of `loss`, a mean over this replica's examples.

        Args:
            player: one of `players`.
            tape: has recorded the loss.
            loss: a scalar.
            when: a boolean scalar, the same in all replicas: only update if it holds. With accumulated
                gradients it must not change within the steps of one update.

        Raises:
            ValueError: if a variable of the player has no gradient (raised while tracing).
        """
        optimizer, variables = self.player_optimizer(player), self.updated_variables(player)
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        # Keras sums gradients over replicas: each contributes its share of the global mean.
        share = optimizer.scale_loss(tf.constant(1.0 / replicas))
        gradients = tape.gradient(loss, variables, output_gradients=tf.cast(share, loss.dtype))
        _require_gradients(player, variables, gradients)
        if self.config.accumulation_steps > 1:
            accumulator = getattr(self, f"{player}_accumulator")
            accumulator.update(variables, gradients, lambda m: self._apply(player, m, variables), when)
            return
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) and replicas > 1:
            # It looks for overflow in its own replica's gradients: give every replica the same ones.
            gradients = [g / replicas for g in context.all_reduce("SUM", gradients)]
        if when is None:
            self._apply(player, gradients, variables)
        else:
            apply_if(when, gradients, lambda given: self._apply(player, given, variables))

    def _apply(self, player: str, gradients: Sequence[tf.Tensor], variables: Sequence) -> None:
        self.player_optimizer(player).apply(gradients, variables)
        for name in self.players[player]:
            self._update_ema(name, {id(v) for v in variables})

    def _update_ema(self, name: str, updated: Container[int]) -> None:
        if f"{name}_ema" not in self._ema_names:
            return
        decay = self.ema_decays[name]
        averaged, current = getattr(self, f"{name}_ema"), getattr(self, name)
        for mean, value in zip(averaged.variables, current.variables):
            if value.trainable and id(value) not in updated:
                continue
            # Averages follow trained weights slowly; statistics such as batch norm's are copied.
            follows = value.trainable and mean.dtype == "float32"
            mean.assign(decay * mean + (1.0 - decay) * value if follows else value)

    def _share_statistics(self) -> None:
        """Makes batch-norm statistics and the like the mean over replicas, which else keep their own."""
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1 or self.config.sync_batch_norm:
            return
        statistics = [
            variable
            for network in (*self.networks.values(), *self.averaged_networks.values())
            for layer in network._flatten_layers()
            for variable in layer._non_trainable_variables
            if "float" in variable.dtype
        ]
        if statistics:
            means = context.all_reduce("MEAN", [tf.convert_to_tensor(v.value) for v in statistics])
            for variable, mean in zip(statistics, means):
                variable.assign(mean)

    # ---------------------------------------------------------------- steps

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("train_step", "test_step"):
            if name in vars(cls):
                setattr(cls, name, _with_named_fields(vars(cls)[name]))

    def named(self, data: Any) -> NamedBatch:
        """A batch as Keras hands it over -> its named fields, in the dtypes of `batch_spec`."""
        fields = self.batch_spec.name_fields(data)
        spec = self.batch_spec
        return NamedBatch(
            {n: v if spec[n].dtype == "string" else tf.cast(v, spec[n].dtype) for n, v in fields.items()}
        )

    def split_batch(self, batch: NamedBatch) -> list[NamedBatch]:
        """The `batches_per_step` batches that `fit` grouped (example-major, so replicas share each)."""
        count = self.batches_per_step
        parted = {n: tf.reshape(v, (-1, count, *v.shape[1:])) for n, v in batch.items()}
        return [NamedBatch({n: v[:, k] for n, v in parted.items()}) for k in range(count)]

    def log(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        """Adds this step's scalars to the epoch's means, which it returns; means over replicas, too.

        Raises:
            ValueError: if the names are not exactly `log_names`.
        """
        if set(scalars) != set(self.log_names):
            raise ValueError(f"log() got {sorted(scalars)}, but log_names is {sorted(self.log_names)}.")
        values = tf.stack([tf.cast(scalars[name], tf.float32) for name in self.log_names])
        values = tf.distribute.get_replica_context().all_reduce("MEAN", values)
        for name, value in zip(self.log_names, tf.unstack(values)):
            getattr(self, f"{name}_tracker").update_state(value)
        results = {name: getattr(self, f"{name}_tracker").result() for name in self.log_names}
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return {name: value[None] for name, value in results.items()}  # keras-team/keras#20585
        return results

    def random_normal(self, purpose: str, shape: Sequence) -> tf.Tensor:
        """This replica's part of the step's standard normal draw called `purpose`."""
        return random.normal(shape, self._seed(purpose))

    def random_uniform(self, purpose: str, shape: Sequence, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        """This replica's part of the step's uniform [low, high) draw called `purpose`."""
        return random.uniform(shape, self._seed(purpose), low, high)

    def random_integers(self, purpose: str, shape: Sequence, high: int) -> tf.Tensor:
        """This replica's part of the step's draw of integers in [0, high) called `purpose`."""
        return random.integers(shape, self._seed(purpose), high)

    def _seed(self, purpose: str) -> tf.Tensor:
        return random.make_seed(self.config.seed, purpose, self.step.value)

    def reseed(self, seed: int, step: int | tf.Tensor) -> None:
        """Sets the seed of every layer that has a `reseed` method, such as `SeededDropout`."""
        for index, layer in enumerate(self._layers_to_reseed()):
            layer.reseed(random.make_seed(seed, f"layer {index}", step))

    def _layers_to_reseed(self) -> list[keras.layers.Layer]:
        networks = [getattr(self, name) for name in (*self._network_names, *self._ema_names)]
        layers = [layer for n in networks for layer in n._flatten_layers()]
        return [layer for layer in layers if hasattr(layer, "reseed")]

    # ---------------------------------------------------------------- fit

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1,
        verbose: Any = "auto", callbacks: Any = None, validation_split: float = 0.0,
        validation_data: Any = None, shuffle: bool = True, class_weight: Any = None,
        sample_weight: Any = None, initial_epoch: int = 0, steps_per_epoch: int | None = None,
        validation_steps: int | None = None, validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> keras.callbacks.History:  # fmt: skip
        """Plain Keras `fit`, after a check of the data; every later batch is checked, too.

        Learning-rate schedules of a fresh model last as long as this run, unless the config has
        `schedule_steps`; later calls go on with them.

        Args:
            x: batches (tensor, tuple or dict) of a `tf.data.Dataset`, a `keras.utils.PyDataset` or a Python
                generator; or arrays (one, a tuple or a dict).
            y: a second array, as Keras takes it.
            batch_size: examples per batch for arrays; the config's by default.
            epochs: number of the last epoch.
            verbose: 0 silent, 1 progress bar, 2 one line per epoch, or "auto".
            callbacks: Keras callbacks.
            validation_split: the last part of arrays, from 0 to 1, is kept for validation.
            validation_data: data of any kind that `x` may be.
            shuffle: arrays and the batches of a PyDataset come in another order in every epoch.
            class_weight: must be None, and so must sample_weight: losses are means over a batch.
            sample_weight: see class_weight.
            initial_epoch: epochs that were trained before.
            steps_per_epoch: training steps in an epoch, for data without end.
            validation_steps: batches in a validation.
            validation_batch_size: examples per batch for arrays.
            validation_freq: as Keras takes it.

        Raises:
            BatchError: if the data do not fit `batch_spec`, before the step that would train on them.
            TypeError: for data of another kind, or weights.
            ValueError: if a schedule's learning rate would be 0 before the run ends.
        """
        fitting.refuse_weights(class_weight=class_weight, sample_weight=sample_weight)
        if validation_split and validation_data is None:
            x, validation_data = fitting.split(self, x, y, validation_split)
            y = None
        epochs_to_do = epochs - initial_epoch
        data = fitting.training_data(self, x, y, batch_size, shuffle, steps_per_epoch, epochs_to_do)
        validation = fitting.validation(self, validation_data, validation_batch_size or batch_size)
        with data.check.reporting(), validation.check.reporting(), fitting.data_may_end(steps_per_epoch):
            self._before_fit(data.dataset, epochs_to_do, steps_per_epoch or fitting.cardinality(data.dataset))
            data.start()
            return super().fit(
                data.dataset, epochs=epochs, verbose=verbose, shuffle=False, initial_epoch=initial_epoch,
                callbacks=fitting.callback_list(self, data, validation, callbacks),
                validation_data=validation.dataset, steps_per_epoch=steps_per_epoch,
                validation_steps=validation_steps, validation_freq=validation_freq,
            )  # fmt: skip

    def _before_fit(self, dataset: Any, epochs: int, steps_per_epoch: int | None) -> None:
        first = int(self.step.numpy())
        run_length.prepare(self, epochs, steps_per_epoch)
        if first == 0 and isinstance(dataset, tf.data.Dataset):
            self.before_first_step(dataset)
        self.before_training(steps_per_epoch and first + steps_per_epoch * epochs)

    def evaluate(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, verbose: Any = "auto",
        sample_weight: Any = None, steps: int | None = None, callbacks: Any = None,
        return_dict: bool = False, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Keras's `evaluate`, with every batch checked; it takes data as `fit` does.

        Raises:
            BatchError: if the data do not fit `batch_spec`.
            TypeError: for data of another kind, or weights.
        """
        if kwargs.get("_use_cached_eval_dataset"):  # Keras's fit asks, and has its checked data
            return super().evaluate(
                x, steps=steps, callbacks=callbacks, return_dict=return_dict, verbose=verbose, **kwargs
            )
        fitting.refuse_weights(sample_weight=sample_weight)
        data = fitting.validation_data(self, x, y, batch_size, "the data of evaluate")
        data.start()
        with data.check.reporting(), fitting.data_may_end(steps):
            return super().evaluate(
                data.dataset, verbose=verbose, steps=steps, return_dict=return_dict,
                callbacks=fitting.callback_list(self, None, data, callbacks), **kwargs,
            )  # fmt: skip

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:  # fmt: skip
        """One training step, after a check of its batch: `batches_per_step` batches in one.

        Raises:
            BatchError: if it does not fit `batch_spec`.
            TypeError: for weights.
            ValueError: if a schedule's learning rate is 0.
        """
        fitting.refuse_weights(sample_weight=sample_weight, class_weight=class_weight)
        fitting.check_batch(self, x, y, self.batches_per_step)
        run_length.check_step(self)
        return super().train_on_batch(x, y, return_dict=return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """`test_step` on one batch, after a check of it; same errors as `evaluate`."""
        fitting.refuse_weights(sample_weight=sample_weight)
        fitting.check_batch(self, x, y)
        return super().test_on_batch(x, y, return_dict=return_dict)

    @property
    def schedule_is_free(self) -> bool:
        """Whether learning-rate schedules may take the length of the run: nothing has set it expressly."""
        return self._schedule_is_free

    def set_schedule_steps(self, steps: int) -> None:
        """Makes learning-rate schedules last `steps` training steps, counted from step 0.

        For training in several calls of `fit`, or beyond the end of a schedule. Moments stay, and so do
        optimizers that `compile` was given.

        Args:
            steps: at least 1.

        Raises:
            ConfigError: if the config cannot have such a length.
        """
        run_length.follow(self, self.config.replace(schedule_steps=steps))
        self._schedule_is_free = False

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is left to build; Keras would average a batch over replicas, which fails for dicts."""

    def set_phase_at(self, step: int, training: bool = False) -> None:
        """Enters the phase that `step` belongs to; both steps are traced anew if it changes.

        Args:
            step: the step to be done next.
            training: `fit` is running and needs its new function at once.
        """
        phase = [name for name, first in self.phases if first <= step][-1]
        if phase != self.phase:
            self.phase = phase
            self.train_function = self.test_function = None  # Keras makes new ones when it needs them
            if training:
                self.make_train_function()

    # ---------------------------------------------------------------- inference

    def run(
        self, inputs: Mapping[str, Any] | np.ndarray, batch_size: int = 64, network: str | None = None
    ) -> Any:
        """Any network (by default the public one) on many examples, `batch_size` at a time, as NumPy."""
        count = len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)
        parts = []
        for start in range(0, count, batch_size):
            chunk = slice(start, start + batch_size)
            part = tf.nest.map_structure(lambda v, chunk=chunk: tf.convert_to_tensor(v[chunk]), inputs)
            parts.append(self._inference(part, network))
        return tf.nest.map_structure(lambda *v: np.concatenate(v).astype("float32"), *parts)

    @functools.cached_property
    def _inference(self) -> Any:
        return tf.function(self._infer, reduce_retracing=True, autograph=False)

    def _infer(self, inputs: Any, network: str | None) -> Any:
        return (getattr(self, network) if network else self.call)(inputs, training=False)

    # ---------------------------------------------------------------- saving

    def save(
        self, filepath: str | Path, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:  # fmt: skip
        """Writes networks, optimizers, seeds and the step to a .keras file, which `tf_gan_zoo.load` reads.

        The file ends with a checksum, and it gets its name when it is whole.

        Raises:
            ValueError: for another ending, saying what writes such files.
            WriteError: if the system refuses; an older file is whole.
        """
        path = expand_unless_address(filepath)
        if zipped is not False and not str(path).endswith(".keras"):
            raise ValueError(
                f"{str(filepath)!r}: save() writes whole models to NAME.keras, which hold the optimizers of "
                f"all players. {_other_ending(str(filepath))}"
            )
        if zipped is False or not isinstance(path, Path) or (path.exists() and not overwrite):
            super().save(path, overwrite, zipped, **kwargs)  # which asks before it overwrites
        else:
            files.write_path(path, lambda unfinished: self._save_sealed(unfinished, **kwargs))

    def _save_sealed(self, path: Path, **kwargs: Any) -> None:
        super().save(path, True, True, **kwargs)
        checkpoints.seal_file(path, int(self.step.numpy()))

    def save_weights(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Keras's own NAME.weights.h5, with a checksum; `tf_gan_zoo.weights.save` writes small .npz files.

        Raises:
            WriteError: if the system refuses; an older file is whole.
        """
        if isinstance(filepath, files.MemoryFile):
            super().save_weights(filepath)
            return
        path = expand_unless_address(filepath)
        if args or kwargs or not isinstance(path, Path) or not path.name.endswith(".weights.h5"):
            super().save_weights(path, *args, **kwargs)
        else:
            checkpoints.save(self, path, means=False)

    def load_weights(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Keras's own, for NAME.weights.h5; `tf_gan_zoo.weights.load` reads .npz files, too.

        Raises:
            CheckpointError: for a file whose content does not fit the checksum that it was saved with.
        """
        path = expand_unless_address(filepath)
        found = checkpoints.check(path) if isinstance(path, Path) else None
        if found is not None and found.sealed and found.problem:
            raise checkpoints.CheckpointError(f"{path} {found.problem}. Take another copy.")
        super().load_weights(path, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The config, what is frozen, and replaced networks whole.

        Raises:
            ValueError: if a replaced network holds code that `load` would refuse.
        """
        frozen = [
            (name, index)
            for name, network in self.networks.items()
            for index, layer in enumerate(network.layers)
            if layer.weights and not layer.trainable and name not in self.stock_architectures
        ]
        config = {"config": self.config.to_dict(), "name": self.name, "frozen": frozen}
        replaced = {name: self.networks[name] for name in self.stock_architectures}
        for name, network in replaced.items():
            replacing.check_savable(network, name)
        networks = {name: keras.saving.serialize_keras_object(n) for name, n in replaced.items()}
        return {**config, **({"networks": networks} if networks else {})}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> GAN:
        model = cls(cls.config_cls.from_dict(config["config"]), name=config["name"])
        for name, network in config.get("networks", {}).items():
            model.replace_network(name, keras.saving.deserialize_keras_object(network, custom_objects))
        for name, index in config.get("frozen", ()):
            model.networks[name].layers[index].trainable = False
        return model

    @property
    def replaced_architectures(self) -> dict[str, list[str]]:
        """Name -> description of each network that was replaced, by which weights are known to fit it."""
        return {name: replacing.describe(self.networks[name]) for name in self.stock_architectures}

    def check_architectures(self, replaced: Mapping[str, list[str]]) -> None:
        """Checks that weights fit, where networks were replaced in this model or in theirs.

        Args:
            replaced: the `replaced_architectures` of the model that the weights come from.

        Raises:
            WeightsError: for networks of another architecture, naming the first difference.
        """
        replacing.check_same(self.stock_architectures, self.networks, replaced)

    def save_own_variables(self, store: Any) -> None:
        """Adds what Keras leaves out: states of seed generators (stock dropout, user layers), and which
        architecture replaced networks have."""
        super().save_own_variables(store)
        for index, state in enumerate(self._seed_states()):
            store[f"seed_{index}"] = np.asarray(state)
        if replaced := self.replaced_architectures:
            store[_REPLACED] = np.frombuffer(json.dumps(replaced).encode(), np.uint8)
        store[_SCHEDULE] = run_length.stored(self)

    def load_own_variables(self, store: Any) -> None:
        names = list(store.keys())
        self.check_architectures(json.loads(bytes(store[_REPLACED])) if _REPLACED in names else {})
        for index, state in enumerate(self._seed_states()):
            if f"seed_{index}" in names:
                state.assign(store[f"seed_{index}"])
        if _SCHEDULE in names:  # files of version 0.1 have none
            run_length.adopt(self, *(int(number) for number in store[_SCHEDULE]))
        own = [n for n in names if not n.startswith("seed_") and n not in (_REPLACED, _SCHEDULE)]
        super().load_own_variables({name: store[name] for name in own})
        self.set_phase_at(int(self.step.numpy()))

    def _seed_states(self) -> list[keras.Variable]:
        layers = [self, *self._flatten_layers(include_self=False)]
        generators = [g for layer in layers for g in getattr(layer, "_seed_generators", ())]
        return [g.state for g in dict.fromkeys(generators)]


class AdversarialGAN(GAN):
    """The usual two players, "generator" and "discriminator", and latents for the generator.

    The config has `latent_size` and `latent_distribution` ("normal" or "uniform" on [-1, 1]).
    """

    log_names = ("d_loss", "g_loss")

    def latents(self, purpose: str, count: int | tf.Tensor) -> tf.Tensor:
        """This replica's (count, latent_size) latents of the draw called `purpose` in this step."""
        return self._latents(count, self._seed(purpose))

    def sample_inputs(self, num_samples: int, seed: int = 0) -> Any:
        """What the public network turns into `num_samples` samples."""
        return self._latents(num_samples, random.make_seed(seed, "samples"))

    def _latents(self, count: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        shape = (count, self.config.latent_size)
        if self.config.latent_distribution == "normal":
            return random.normal(shape, seed)
        return random.uniform(shape, seed, -1.0, 1.0)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        network = self.public_network()
        drawn = {"normal": "standard normal numbers", "uniform": "uniform numbers from -1 to 1"}
        notes = {network.inputs[0].name: drawn[self.config.latent_distribution]}
        return {"generate": Endpoint(network, {network.output_names[0]: self.output_range}, notes=notes)}

    @property
    def output_range(self) -> tuple[float, float]:
        """Smallest and largest value of a sample: that of the training pictures."""
        return next(iter(self.batch_spec.values())).value_range

    @property
    def serving_functions(self) -> dict[str, ServingFunction]:
        endpoint = self.endpoints["generate"]

        def generate_seeded(seed: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
            return endpoint.run(self._by_name(endpoint, self.sample_inputs(num_samples, seed)))

        types = (tf.TensorSpec((), tf.int64, name="seed"), tf.TensorSpec((), tf.int32, name="num_samples"))
        examples = {"seed": tf.constant(3, tf.int64), "num_samples": tf.constant(2)}
        return {"generate_seeded": ServingFunction(generate_seeded, types, endpoint.pictures, examples)}

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        if sizes:  # an encoder, a classifier: a network that takes pictures
            return super().example_inputs(endpoint, count, sizes, seed)
        return self._by_name(endpoint, self.sample_inputs(count, seed))

    @staticmethod
    def _by_name(endpoint: Endpoint, inputs: Any) -> dict[str, Any]:
        return inputs if isinstance(inputs, Mapping) else dict(zip(endpoint.input_names, [inputs]))

    def generate(
        self, num_samples: int = 1, seed: int = 0, batch_size: int = 64, **conditions: Any
    ) -> np.ndarray:
        """Samples from the generator.

        Args:
            num_samples: how many.
            seed: the same seed gives the same samples.
            batch_size: samples per call of the network.
            **conditions: what the model takes besides noise (labels=, codes=...).

        Returns:
            float32 (num_samples, height, width, channels) in the range of the model's output.

        Raises:
            ValueError: if `num_samples` is below 1.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
        if conditions:
            return self.run(self.sample_inputs(num_samples, seed, **conditions), batch_size)
        count, seed = tf.constant(num_samples), tf.constant(seed, tf.int64)
        if num_samples <= batch_size:  # one call: eager draws would take longer than a small generator
            return np.asarray(self._drawn_samples(count, seed), "float32")
        return self.run(self._drawn_inputs(count, seed), batch_size)

    @functools.cached_property
    def _drawn_samples(self) -> Any:
        return tf.function(lambda *draw: self.call(self.sample_inputs(*draw)), autograph=False)

    @functools.cached_property
    def _drawn_inputs(self) -> Any:
        return tf.function(self.sample_inputs, autograph=False)


    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Which classes as many samples as there are labelled examples fall into, by nearest neighbour."""
        if "labels" not in examples or "images" not in examples:
            return {}
        samples = self.generate(len(examples["images"]), seed=0)
        return tasks.class_coverage(samples, examples["images"], examples["labels"])


def _with_named_fields(step: Any) -> Any:
    """Wraps a subclass's step: named fields in, dropout seeded, the step counter moved once."""

    @functools.wraps(step)
    def wrapper(self: GAN, data: Any) -> dict[str, tf.Tensor]:
        if isinstance(data, NamedBatch):  # a subclass called its parent's step
            return step(self, data)
        batch = self.named(data)
        # Where a dataset ends unannounced, Keras runs half a step: no state may move without a batch.
        with tf.control_dependencies(list(batch.values())):
            if step.__name__ != "train_step":
                return step(self, batch)
            self.reseed(self.config.seed, self.step.value)
            logs = step(self, batch)
            self._share_statistics()
            self.step.assign_add(1)
            return logs

    return wrapper


def _frozen_copy(network: keras.Model, name: str) -> keras.Model:
    """A clone with the same weights under another name that no optimizer updates."""
    kinds = {type(layer) for layer in network._flatten_layers()}
    own = {kind.__name__: kind for kind in kinds if not kind.__module__.startswith("keras.")}
    with keras.saving.custom_object_scope(own):  # of layers that are not registered
        copy = type(network).from_config({**network.get_config(), "name": name})
    copy.set_weights(network.get_weights())
    copy.trainable = False
    return copy


def _other_ending(path: str) -> str:
    """What writes a file of that name."""
    if path.endswith(".weights.h5"):
        return "For weights alone call model.save_weights(path)."
    if path.endswith(".npz"):
        return "For small files of weights call tf_gan_zoo.weights.save(model, path)."
    if path.endswith((".h5", ".hdf5")):
        return "HDF5 files hold weights only: model.save_weights('NAME.weights.h5')."
    return "For other programs call model.export(path)."


def _require_gradients(player: str, variables: Sequence, gradients: Sequence) -> None:
    missing = [v.path for v, g in zip(variables, gradients) if g is None]
    if missing:
        raise ValueError(
            f"the loss of player {player!r} does not depend on {', '.join(missing[:3])}"
            f"{' and others' * (len(missing) > 3)}: check the loss or the player's networks."
        )
    if not variables:
        warnings.warn(f"player {player!r} has no trainable variables; its update does nothing.", stacklevel=3)
