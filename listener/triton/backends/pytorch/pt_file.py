"""What kind of file a model's is, without unpickling anything: TorchScript, or what people have in its place."""

from __future__ import annotations

import zipfile
from pathlib import Path

# The first bytes of a pickle as torch.save wrote it before torch 1.6, of a TorchScript of before 1.0 there is none.
_PICKLE = b"\x80"


def not_torchscript(file: Path) -> str:
    """Says what a file is that torch.jit.load cannot load; "" = it is TorchScript, or looks like it.

    Args:
        file: one that can be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            # all names begin with the archive's own
            names = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        with file.open("rb") as stream:
            start = stream.read(1)
        what = "a pickle, as old versions of torch.save wrote it" if start == _PICKLE else "damaged, or no TorchScript"
        return f"{file} is {what}"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return ""
    if "data.pkl" in names:
        return f"{file} was written by torch.save (a state_dict or a pickled module), which is no TorchScript"
    if any(
        name.endswith(("exported_program.json", "/model.json")) or name.startswith("data/aotinductor/")
        for name in names
    ):
        return f"{file} was written by torch.export, which is no TorchScript"
    return f"{file} is an archive, but no TorchScript"
