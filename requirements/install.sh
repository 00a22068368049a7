#!/bin/sh
# Installs in a stage of the Dockerfile, the same way on every base.
#   install.sh packages SUFFIX   the lock pyXYSUFFIX.lock of this Python XY into the virtual environment /opt/listener
#   install.sh code WHEEL        the listener itself into /code, which is to be copied over /opt/listener
# Bytecode is compiled here, because nobody may write it later, and holds without a look at its source's date, which not
# every builder keeps.
set -eu
here=$(dirname "$0")

pip() {
  python3 -m pip --python /opt/listener/bin/python install --no-compile --disable-pip-version-check "$@"
}

compile() { # FOLDER
  python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$1" -p /opt/listener "$1"
}

case $1 in
  packages)
    # without a pip in it, which would need the package python3-venv, and NVIDIA's image does without that
    python3 -m venv --without-pip /opt/listener
    python=$(python3 -c 'import sys; print("py%d%d" % sys.version_info[:2])')
    pip --require-hashes -r "$here/$python$2.lock"
    # the wheel's Triton, where it is: its stub for this Python to where Triton looks for it (listener/triton/installation.py)
    for triton in /opt/listener/lib/python3.*/site-packages/pytriton/tritonserver; do
      [ -d "$triton" ] || continue
      mv "$triton/python_backend_stubs/$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"/* "$triton/backends/python"
      rm -r "$triton/python_backend_stubs"
    done
    compile /opt/listener
    ;;
  code)
    pip --no-index --no-deps --prefix /code "$2"
    compile /code
    ;;
  *)
    echo "usage: $0 packages SUFFIX | code WHEEL" >&2
    exit 2
    ;;
esac
