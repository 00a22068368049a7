"""What is in the images, without running them."""

from __future__ import annotations

from pathlib import Path

from listener import __version__
from tests.image.runtime import Image
from tests.integration.stack import ROOT

#: What the base says of itself, and where the two differ for a reason.
_OWN_LABELS = {"io.buildah.version", "org.opencontainers.image.description"}


def test_both_images_say_the_same(images: dict[str, Image]) -> None:
    both = [images[name] for name in ("standin", "cpu")]
    one, other = (image.config for image in both)
    for key in ("User", "ExposedPorts", "WorkingDir", "Entrypoint", "Cmd", "Healthcheck"):
        assert one[key] == other[key], key
    assert {(name, one["Labels"][name]) for name in one["Labels"].keys() - _OWN_LABELS} == {
        (name, other["Labels"][name]) for name in other["Labels"].keys() - _OWN_LABELS
    }
    base = {"LD_LIBRARY_PATH", "BASH_ENV", "PATH"}
    environs = [{name: value for name, value in image.environ.items() if name not in base} for image in both]
    assert environs[0] == environs[1]


def test_what_an_engine_is_told(image: Image) -> None:
    config = image.config
    assert config["User"] == "1000:1000"  # by number, or Kubernetes' runAsNonRoot would refuse it
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config["Healthcheck"]["Test"] == ["CMD", "listener", "health"]
    assert config["Entrypoint"][0] == "bash"
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert image.environ["PATH"].startswith("/opt/listener/bin:")


def test_nothing_of_the_build_stays(image: Image) -> None:
    """No index, no wheels, no compiler, and in the listener's environment no pip."""
    root = image.rootfs
    for name in (
        "etc/pip.conf",
        "requirements",
        "dist",
        "code",
        "given",
        "src",
        "opt/build",
        "root/.cache",
        "usr/bin/gcc",
    ):
        assert not (root / name).exists(), name
    assert list((root / "wheels").glob("*")) == []
    (packages,) = (root / "opt/listener/lib").glob("python3.*/site-packages")
    assert (packages / "listener").is_dir()
    assert not (packages / "pip").exists()
    assert not (packages / "setuptools").exists()
    if image.name == "cpu":
        assert not list((root / "usr/lib/python3/dist-packages").glob("pip*"))


def test_bytecode_is_there_and_needs_no_look_at_its_source(image: Image) -> None:
    (packages,) = (image.rootfs / "opt/listener/lib").glob("python3.*/site-packages")
    for name in ("listener", "aiohttp"):
        (compiled,) = (packages / name / "__pycache__").glob("__init__.*.pyc")
        assert compiled.read_bytes()[4:8] == (0b01).to_bytes(4, "little"), name  # by hash, unchecked (PEP 552)


def test_everybody_may_read_the_service(image: Image) -> None:
    service = image.rootfs / "service"
    assert {path.name for path in service.iterdir()} == {"listener.yaml", "handlers", "triton_repo"}
    for path in service.rglob("*"):
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted, path
        assert path.stat().st_uid == 0, path


def contents(folder: Path) -> dict[Path, bytes]:
    """Of the files in a folder that are not made by running them."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return {file.relative_to(folder): file.read_bytes() for file in files}


def test_another_service_is_baked_in_whole(images: dict[str, Image]) -> None:
    """What `--build-arg SERVICE=examples/text_tokenizer` makes."""
    given, baked = ROOT / "examples" / "text_tokenizer", images["service"].rootfs / "service"
    assert contents(baked) == contents(given)


def test_our_layers_are_small(images: dict[str, Image]) -> None:
    sizes = images["standin"].added_layers()
    print(f"layers on top of the base: {[round(size / 1e6, 1) for size in sizes]} MB, {sum(sizes) / 1e6:.1f} MB in all")
    assert max(sizes) > 20e6  # the packages: these are ours
    assert sum(sizes) < 90e6
