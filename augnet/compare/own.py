"""An arm of the user's own: any transform that Python can import."""

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms import v2

from augnet.compare.arm import Arm, Augment, of_arrays, one_by_one
from augnet.compare.bench import Bench
from augnet.data.pixels import as_tensor, unit_range
from augnet.nearest import nearest

# What code raises on something that it is not for.
UNFIT = (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RuntimeError, AssertionError, OSError)


@dataclass(frozen=True, kw_only=True)
class Own(Arm):
    """A transform of the user's: for one image, a uint8 tensor (c, h, w) or, failing that, a PIL image.

    Args:
        where: `module:attribute` or `path/to/file.py:attribute`; a callable, or an albumentations pipeline. Known again
            by the content of its file, not of what that imports.
    """

    where: str

    short: ClassVar[str] = "own"

    @property
    def own_name(self) -> str:
        return self.where

    def build(self, bench: Bench, seed: int) -> Augment:
        transform, channels = self._load(), bench.train.shape[0]
        if isinstance(transform, type):
            raise ValueError(f"{self.where} is a class; name an instance of it")
        if any(kind.__module__.startswith("albumentations") for kind in type(transform).__mro__):
            transform.set_random_seed(seed)
            return one_by_one(of_arrays(transform, channels))
        to_pil = v2.ToPILImage()

        def of_tensors(image: UInt8[Tensor, "c h w"]) -> Tensor:
            return unit_range(as_tensor(transform(image), channels, None))

        def of_pil(image: UInt8[Tensor, "c h w"]) -> Tensor:
            return unit_range(as_tensor(transform(to_pil(image)), channels, None))

        # Tensors until one is refused, which what is done at random may do now and then only.
        ways = [of_tensors, of_pil]

        def augment(image: UInt8[Tensor, "c h w"]) -> Tensor:
            errors = []
            for number, way in enumerate(ways):
                try:
                    augmented = way(image.clone())  # it may be written to before it is refused
                except UNFIT as error:
                    errors.append(f"{type(error).__name__}: {error}")
                else:
                    del ways[:number]
                    return augmented
            raise ValueError(
                f"{self.where} fails on an image of shape {tuple(image.shape)} ({', as a PIL image '.join(errors)}); "
                "it should take a uint8 tensor or a PIL image, and give one of them, or floats in [0, 1]"
            )

        return one_by_one(augment)

    def identity(self, bench: Bench) -> str:
        return hashlib.sha256(self._file().read_bytes()).hexdigest()[:16]

    def _file(self) -> Path:
        module = self.where.rpartition(":")[0]
        if module.endswith(".py"):
            if not Path(module).is_file():
                raise FileNotFoundError(f"there is no file {module!r}, which should hold the transform {self.where!r}")
            return Path(module)
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            found = None
        if found is None or found.origin is None:
            raise ValueError(f"there is no module {module!r} to import; write file.py:attribute or module:attribute")
        return Path(found.origin)

    def _load(self) -> Any:
        module, _, attribute = self.where.rpartition(":")
        path = self._file()
        try:
            loaded = _imported(path) if module.endswith(".py") else importlib.import_module(module)
        except (*UNFIT, ImportError, SyntaxError) as error:
            raise ValueError(f"{path} cannot be imported ({type(error).__name__}: {error}); mend it first") from error
        transform = getattr(loaded, attribute, None)
        if hasattr(loaded, attribute) and not callable(transform):
            kind = type(transform).__name__
            raise ValueError(f"{attribute!r} of {module} cannot be called, it is of type {kind}; name a transform")
        if not callable(transform):
            named = [name for name, value in vars(loaded).items() if callable(value) and not name.startswith("_")]
            raise ValueError(
                f"{module} has no transform {attribute!r}{nearest(attribute, named, 'name one of its own')}"
            )
        return transform


def _imported(path: Path) -> ModuleType:
    name = f"augnet_own_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look for their module there, where annotations are strings.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
