"""What a person may type for a data set: a name, a folder, a file."""

from pathlib import Path

from augnet.data.archives import Npz
from augnet.data.folders import Folder
from augnet.data.hubs import HuggingFace, Torchvision, torchvision_names
from augnet.data.sources import DataSource, Digits
from augnet.nearest import nearest, plain


def source_from(text: str, root: str | Path | None = None, download: bool = False) -> DataSource:
    """Understand one word as a source of images.

    "digits"; an .npz file, or a folder with train.npz; a folder of class folders; "hf:name" for the Hugging Face hub; a
    data set of torchvision, such as cifar10, in this order. "./digits" is the folder of that name.

    Args:
        text: what was typed.
        root: folder where torchvision keeps its data; "data" by default.
        download: let torchvision fetch what is not there.

    Raises:
        FileNotFoundError: if it looks like a path and nothing is there.
        ValueError: if it is no path and no known name; the message gives the nearest names.
    """
    if plain(text) == "digits":
        return Digits()
    if text.startswith("hf:"):
        return HuggingFace(name=text.removeprefix("hf:"))
    path = Path(text).expanduser()
    if path.is_dir():
        return Npz(path=str(path)) if (path / "train.npz").exists() else Folder(root=str(path))
    if path.is_file():
        if path.suffix != ".npz":
            raise ValueError(f"{text!r} is a file, but not an .npz archive; give that or a folder of class folders")
        return Npz(path=str(path))
    if path.suffix == ".npz" or any(mark in text for mark in "/\\~"):
        raise FileNotFoundError(f"there is no file or folder {text!r}")
    known = torchvision_names()
    if plain(text) in known:
        return Torchvision(name=text, root=root or "data", download=download)
    here = [entry.name for entry in Path().iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    otherwise = "give a folder, an .npz file, digits, or a name such as cifar10"
    advice = nearest(text, ["digits", *known, *here], otherwise)
    raise ValueError(f"no such path or data set: {text!r}{advice}")
