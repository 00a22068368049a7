#!/usr/bin/env bash
# Builds the images of the Dockerfile without an engine and tests them: buildah builds, runc runs. Its last line is the verdict.
# The bases are made here: Debian by debootstrap, and what stands for NVIDIA's (tests/image/standin.Dockerfile) from it.
#
# As root, with Debian's packages buildah, debootstrap, runc and iproute2. Python packages come from wherever pip is told to
# look; they are fetched before the builds, which then look into a folder. What is kept in build/image-test makes the second
# run faster. Further arguments are pytest's: tools/image_test.sh -k sigterm
#
#   PYTHON                Python with the extras of setup.cfg (default: .venv/bin/python)
#   IMAGE_TEST_WORK       a folder for everything that is made (default: build/image-test)
#   IMAGE_TEST_MIRROR     where debootstrap finds Debian (default: http://deb.debian.org/debian)
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
WORK=${IMAGE_TEST_WORK:-$PWD/build/image-test}
DEBIAN=localhost/debian:bookworm-slim
STANDIN=localhost/tritonserver:standin
SUITE=bookworm

say() { printf '== %s (%d s)\n' "$1" "$SECONDS"; }

STEP="before the first step"
step() {
  STEP=$1
  say "$1"
}

verdict() { # STATUS
  unmount || true
  if [ "$1" -eq 0 ]; then
    echo "image-test: passed in $SECONDS s"
  else
    echo "image-test: failed: $STEP (exit status $1, after $SECONDS s)"
  fi
}
trap 'verdict $?' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

store() { buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver "$DRIVER" "$@"; }

# overlay where the kernel lets us, which copies nothing; vfs elsewhere
driver() {
  local try="$WORK/overlay"
  mkdir -p "$try"/{lower,upper,work,merged}
  if mount -t overlay overlay -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work" "$try/merged" 2>/dev/null; then
    umount "$try/merged"
    echo overlay
  else
    echo vfs
  fi
}

require() {
  [ "$(id -u)" -eq 0 ] || { echo "to be run as root, which chroot and mount need" >&2; return 1; }
  local program missing=()
  for program in buildah debootstrap runc ip; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  [ ${#missing[@]} -eq 0 ] || { echo "missing: ${missing[*]}; apt-get install buildah debootstrap runc iproute2" >&2; return 1; }
}

debian() { # what docker.io/library/debian:bookworm-slim would be
  store inspect --type image "$DEBIAN" >/dev/null 2>&1 && return
  rm -rf "$WORK/debian"
  debootstrap --variant=minbase "$SUITE" "$WORK/debian" "${IMAGE_TEST_MIRROR:-http://deb.debian.org/debian}" >"$WORK/debootstrap.log" 2>&1 ||
    { tail -n 20 "$WORK/debootstrap.log" >&2; return 1; }
  rm -rf "$WORK/debian"/var/cache/apt/archives/*.deb "$WORK/debian"/var/lib/apt/lists/*
  local container
  container=$(store from scratch)
  store add --quiet "$container" "$WORK/debian" / >/dev/null
  store config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --cmd bash "$container"
  store commit --quiet --rm "$container" "$DEBIAN" >/dev/null
  rm -rf "$WORK/debian"
}

packages() { # every package of the locks of Debian's Python, checked against their hashes
  local lock
  for lock in build py311 py311-cpu; do
    cmp -s "requirements/$lock.lock" "$WORK/wheels/$lock.lock" && continue
    "$PYTHON" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
      --implementation cp --python-version 311 --platform manylinux_2_36_x86_64 --platform manylinux_2_35_x86_64 \
      --platform manylinux_2_34_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_26_x86_64 \
      --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
      --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 --platform manylinux_2_5_x86_64 --platform manylinux1_x86_64 \
      --dest "$WORK/wheels" -r "requirements/$lock.lock" >"$WORK/download.log" 2>&1 || { tail -n 20 "$WORK/download.log" >&2; return 1; }
    cp "requirements/$lock.lock" "$WORK/wheels"
  done
  printf '[global]\nno-index = true\nfind-links = /wheels\n' >"$WORK/pip.conf"
}

build() { # IMAGE ARGUMENT...
  store bud --isolation chroot --layers --format docker --quiet --volume "$WORK/wheels:/wheels:ro" \
    --secret "id=pip.conf,src=$WORK/pip.conf" --tag "$@" >"$WORK/build.log" 2>&1 || { tail -n 40 "$WORK/build.log" >&2; return 1; }
}

unpack() { # NAME IMAGE BASE: everything that the tests read about an image, in build/image-test/images/NAME
  local folder="$WORK/images/$1"
  rm -rf "$folder"
  mkdir -p "$folder"
  store inspect --type image "$2" >"$folder/image.json"
  store inspect --type image "$3" >"$folder/base.json"
  store from --quiet --name "image-test-$1" "$2" >/dev/null
  store mount "image-test-$1" >"$folder/rootfs"
}

push() { # IMAGE FOLDER: as to a registry, into FOLDER/oci; the compressed layers are kept for the next time
  local id
  id=$(store inspect --type image --format '{{.FromImageID}}' "$1")
  [ -e "$WORK/oci/$id" ] || {
    rm -rf "$WORK/oci"
    store push --quiet "$1" "oci:$WORK/oci" 2>/dev/null
    touch "$WORK/oci/$id"
  }
  ln -s "$WORK/oci" "$2/oci"
}

unmount() {
  [ -n "${DRIVER:-}" ] || return 0
  local name
  for name in standin torch cpu service; do
    store umount "image-test-$name" >/dev/null 2>&1 || true
    store rm "image-test-$name" >/dev/null 2>&1 || true
  done
  umount "$WORK/storage/overlay" 2>/dev/null || true # where buildah has mounted it onto itself
}

tests() { # in a network of their own: the image's ports are fixed, and nothing outside can be reached
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --net bash -c 'ip link set lo up && exec "$@"' bash \
    "$PYTHON" -m pytest tests/image --images "$WORK/images" -p no:cacheprovider "$@"
}

step "what is needed"
require
mkdir -p "$WORK"/{wheels,storage,run,images}
WORK=$(cd "$WORK" && pwd)
DRIVER=$(driver)
step "Debian $SUITE"
debian
step "Python packages"
packages
step "what stands for NVIDIA's image"
build "$STANDIN" --build-arg "DEBIAN=$DEBIAN" --file tests/image/standin.Dockerfile tests/image
step "the image on it"
build localhost/listener --build-arg "BASE_IMAGE=$STANDIN" --build-arg "CPU_BASE_IMAGE=$DEBIAN" .
step "the same with torch"
build localhost/listener-torch --build-arg "STANDIN=$STANDIN" --build-context listener=container-image://localhost/listener --file tests/image/torch.Dockerfile tests/image
step "the image cpu"
build localhost/listener-cpu --target cpu --build-arg "BASE_IMAGE=$STANDIN" --build-arg "CPU_BASE_IMAGE=$DEBIAN" .
step "another service"
build localhost/listener-service --target service --build-arg "CPU_BASE_IMAGE=$DEBIAN" --build-arg SERVICE=examples/text_tokenizer .
step "their layers"
unmount
unpack standin localhost/listener "$STANDIN"
push localhost/listener "$WORK/images/standin"
unpack torch localhost/listener-torch "$STANDIN"
cp "$WORK/images/standin/image.json" "$WORK/images/torch" # our files in another order: what an engine is told is ours
unpack cpu localhost/listener-cpu "$DEBIAN"
unpack service localhost/listener-service "$DEBIAN"
step "the tests"
tests "$@"
