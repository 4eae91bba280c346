"""Whole distributions and bijectors in one file, and back."""

from __future__ import annotations

import contextlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import saving as serialization
from tfp_flows.bijectors.tree import layers_in
from tfp_flows.internal.arguments import Config, checked_instance, invalid
from tfp_flows.internal.compat import (
    Holder,
    follow_trainable,
    made_trainable,
    share_storage,
    tf_variables,
)
from tfp_flows.internal.files import atomic_write


def checked_path(path: str | os.PathLike) -> Path:
    """Returns `path` if it names a `.keras` file; raises `ValueError` otherwise."""
    checked = Path(path)
    if checked.suffix != ".keras":
        raise invalid("path", "end in '.keras'", str(path))
    return checked


def check_archive(path: Path) -> None:
    """Refuses a missing or damaged `.keras` archive."""
    if not path.is_file():
        raise invalid("path", "name a file", str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"The file {path} is not a whole archive: {error}.") from error
    missing = {"config.json", "metadata.json"} - names
    if damaged or missing:
        what = f"'{damaged}' is damaged" if damaged else f"{sorted(missing)} is missing"
        raise ValueError(f"The file {path} is not a whole `.keras` archive: {what}.")


class AdoptedVariables(keras.Layer):
    """Keras weights that are a distribution's own `tf.Variable`s.

    Each weight shares its storage and its constraint with the user's variable, so that
    training and loading change the variable that the distribution reads.
    """

    @classmethod
    def of(cls, content: tf.Module) -> AdoptedVariables:
        """Adopts the variables of a distribution or bijector that no layer owns."""
        owned = {id(v) for v in tf_variables(layers_in(content))}
        return cls([v for v in content.variables if id(v) not in owned], name="adopted")

    def __init__(self, variables: list[tf.Variable], **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        for index, variable in enumerate(variables):
            weight = self.add_weight(
                variable.shape,
                "zeros",
                dtype=keras.backend.standardize_dtype(variable.dtype),
                trainable=variable.trainable,
                constraint=variable.constraint,
                name=f"variable_{index}",
            )
            share_storage(weight, variable)
            follow_trainable(weight)
        self.built = True


FROZEN = "frozen"


def frozen(model: keras.Model) -> Config:
    """Describes which weights do not train although their layers made them to."""
    places = [
        [i, j]
        for i, (layer, weights) in enumerate(made_trainable(model))
        for j, weight in enumerate(weights)
        # LoRA freezes kernels itself, and files hold its sums with them.
        if not weight.trainable and not getattr(layer, "lora_enabled", False)
    ]
    return {FROZEN: places} if places else {}


def freeze(model: keras.Model, config: Config) -> None:
    """Freezes the weights that `frozen` described."""
    layers = made_trainable(model)
    for i, j in config.get(FROZEN, ()):
        layers[i][1][j].trainable = False


WRITTEN_BY = "written_by"


def written_by() -> dict[str, str]:
    """Returns the version of this package, for a model's configuration."""
    from tfp_flows import __version__  # not there yet while the package loads

    return {WRITTEN_BY: f"tfp_flows {__version__}"}


@contextlib.contextmanager
def reading(config: Config) -> Iterator[None]:
    """Says in one sentence which version wrote what cannot be read, and why not."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        here = written_by()[WRITTEN_BY]
        writer = config.get(WRITTEN_BY, "an older tfp_flows")
        if writer not in (here, "an older tfp_flows"):
            writer += f" (`pip install {writer.replace(' ', '==')}`)"
        must = f"The file of {writer} cannot be read by {here}: {reason(error)}"
        raise ValueError(must) from None


def reason(error: Exception) -> str:
    """Returns what an error says without the configurations that Keras prints."""
    text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    text = text.rsplit("Exception encountered: ", maxsplit=1)[-1]
    text = text.split("Full object config", maxsplit=1)[0].strip()
    return re.split(r"\n|config=\{", text)[0].strip()


def name_package(path: str | os.PathLike) -> None:
    """Makes Keras say what to import where a file is opened without this package.

    Keras finds a class by its registered name first. Where that is not known, it
    prints the whole configuration, unless the class is said to be one of its own.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as old:
        config = json.loads(old.read("config.json"))
        if not str(config.get("registered_name")).startswith("tfp_flows>"):
            return
        config["module"] = "keras"
        config["class_name"] += (
            f" of {written_by()[WRITTEN_BY]}: `import tfp_flows` before loading, after "
            "`pip install tfp-flows` if it is missing"
        )
        with atomic_write(path) as written, zipfile.ZipFile(written, "w") as new:
            for entry in old.infolist():
                data = old.read(entry)
                own = entry.filename == "config.json"
                new.writestr(entry, json.dumps(config) if own else data)


@keras.saving.register_keras_serializable(package="tfp_flows")
class SavedObject(keras.Model):
    """A Keras model that holds a distribution or bijector, and does nothing else.

    It is for what no `FlowModel` can train: joint distributions, distributions whose
    shape is not static, and bijectors without a base.
    """

    def __init__(self, content: object, **kwargs: Any) -> None:
        """Adopts every weight of `content`, a TFP distribution or bijector."""
        super().__init__(autocast=False, **kwargs)
        self._content = Holder(content)
        self._content_layers = layers_in(content)
        self._adopted = AdoptedVariables.of(content)
        self.built = True

    @property
    def content(self) -> tf.Module:
        """The distribution or bijector."""
        return self._content.value

    def get_config(self) -> Config:
        """Describes the content."""
        content = serialization.serialize(self.content)
        return {"content": content, "name": self.name, **frozen(self), **written_by()}

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: Config | None = None
    ) -> SavedObject:
        """Builds the model that `get_config` described, with fresh weights."""
        arguments = {k: v for k, v in config.items() if k not in (WRITTEN_BY, FROZEN)}
        with reading(config), keras.saving.custom_object_scope(custom_objects or {}):
            content = serialization.deserialize(arguments.pop("content"))
            model = cls(content, **arguments)
        freeze(model, config)
        return model


def save_distribution(distribution: tfd.Distribution, path: str | os.PathLike) -> None:
    """Writes a distribution with all its weights to a `.keras` archive, atomically.

    Which of TFP's classes can be saved, joint distributions among them, is listed in
    `docs/serialization.md`; a `TypeError` names a part that cannot.
    """
    checked_instance(
        "distribution", distribution, tfd.Distribution, "a TFP distribution"
    )
    save_model(SavedObject(distribution), path)


def load_distribution(path: str | os.PathLike) -> tfd.Distribution:
    """Reads a distribution that `save_distribution` or `FlowModel.save` wrote.

    A `ValueError` names what is missing, damaged, or of a class that is not registered.
    """
    return _content(path, tfd.Distribution, "distribution")


def save_bijector(bijector: tfb.Bijector, path: str | os.PathLike) -> None:
    """Writes a bijector to a `.keras` archive, as `save_distribution` does.

    Example:
        >>> import os, tempfile, tfp_flows as tfpf
        >>> path = os.path.join(tempfile.mkdtemp(), "step.keras")
        >>> tfpf.save_bijector(tfpf.ActNorm(4), path)
        >>> tfpf.load_bijector(path).name
        'act_norm'
    """
    checked_instance("bijector", bijector, tfb.Bijector, "a TFP bijector")
    save_model(SavedObject(bijector), path)


def load_bijector(path: str | os.PathLike) -> tfb.Bijector:
    """Reads a bijector that `save_bijector` wrote; see `load_distribution`."""
    return _content(path, tfb.Bijector, "bijector")


def save_model(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes a model to a `.keras` archive, by an atomic write."""
    with atomic_write(checked_path(path)) as written:
        model.save(written)
        name_package(written)


def load_archive(path: str | os.PathLike) -> keras.Model:
    """Reads whatever model a `.keras` archive holds; see `load_distribution`."""
    target = checked_path(path)
    check_archive(target)
    try:
        model: Any = keras.models.load_model(target)
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ValueError(f"The file {path} cannot be loaded: {reason(error)}") from None
    return model


def _content(
    path: str | os.PathLike, cls: type, name: str
) -> tfb.Bijector | tfd.Distribution:
    model = load_archive(path)
    held = "content" if isinstance(model, SavedObject) else "distribution"
    content = getattr(model, held, model)
    if not isinstance(content, cls):
        raise ValueError(
            f"The file {path} must hold a TFP {name}. "
            f"Received: a {type(content).__name__}"
        )
    return content
