#!/usr/bin/env bash
# Run a core of the test suite on emulated ARM: qemu-user-static in a Debian tree for arm64, made by debootstrap.
# Needs root, 2 GB, and the packages debootstrap and qemu-user-static. Takes hours: kernels compile ten times slower.
#
#     tests/long/arm.sh FOLDER [PYTEST-ARGUMENT…]
#
# FOLDER keeps the tree and the compiled kernels for the next run. Without arguments for pytest, a core is run.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
tree=$(realpath -m "$1")
shift
repository=$(cd "$(dirname "$0")/../.." && pwd)
qemu=/usr/bin/qemu-aarch64-static
core=(tests/ops/test_{conv2d,dense}.py tests/test_{maths,pool,threads,training}.py)

# The kernel starts ARM programs with the emulator, which it opens now (F), so that it works in the tree.
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
if [ "$(uname -m)" != aarch64 ] && [ ! -e $binfmt/qemu-aarch64 ]; then
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    echo ":qemu-aarch64:M::$magic:$mask:$qemu:F" >$binfmt/register
fi

[ -x "$tree/usr/bin/python3" ] ||
    debootstrap --arch=arm64 --variant=minbase --include=python3-venv,ca-certificates,libgomp1 bookworm "$tree"
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$file" ] || { mkdir -p "$tree$(dirname "$file")" && cp -rL "$file" "$tree$(dirname "$file")"; }
done
mountpoint -q "$tree/proc" || mount -t proc proc "$tree/proc"
mountpoint -q "$tree/dev" || mount --bind /dev "$tree/dev"
trap 'umount "$tree/proc" "$tree/dev"' EXIT

inside() { chroot "$tree" env HOME=/root NUMBACNN_CACHE_DIR=/cache "$@"; }
rm -rf "$tree/src"
git clone -q "$repository" "$tree/src"
inside python3 -m venv /venv
inside /venv/bin/pip install -q -e '/src[test]'
inside /venv/bin/python -c 'import platform; from numbacnn.kernels.target import host_target as t; print(platform.machine(), t())'
inside bash -c 'cd /src && exec "$@"' - /venv/bin/python -m pytest -q "${@:-${core[@]}}"
