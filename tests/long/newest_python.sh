#!/usr/bin/env bash
# Run the test suite on a Python of Debian's unstable distribution, in a tree made by debootstrap. Needs root and 2 GB.
#
#     tests/long/newest_python.sh FOLDER [PYTHON [PYTEST-ARGUMENT…]]
#
# FOLDER keeps the tree and the compiled kernels for the next run. PYTHON is python3, the default, or such as python3.15.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
tree=$(realpath -m "$1") python=${2:-python3}
shift $(($# > 1 ? 2 : 1))
repository=$(cd "$(dirname "$0")/../.." && pwd)
fresh=(-o Acquire::Check-Valid-Until=false) # mirrors may serve a snapshot

[ -x "$tree/usr/bin/python3" ] || debootstrap --variant=minbase --include=python3-venv,ca-certificates,libgomp1 sid "$tree"
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip /etc/ssl/certs/ca-certificates.crt; do
    [ ! -e "$file" ] || { mkdir -p "$tree$(dirname "$file")" && cp -rL "$file" "$tree$(dirname "$file")"; }
done
mountpoint -q "$tree/proc" || mount -t proc proc "$tree/proc"
mountpoint -q "$tree/dev" || mount --bind /dev "$tree/dev"
trap 'umount "$tree/proc" "$tree/dev"' EXIT

inside() { chroot "$tree" env -u NUMBACNN_TEST_DATA HOME=/root NUMBACNN_CACHE_DIR=/cache "$@"; }
if ! inside "$python" -c 'import ensurepip' 2>/dev/null; then
    inside apt-get "${fresh[@]}" update -qq
    inside apt-get "${fresh[@]}" install -y -qq "$python-venv"
fi
rm -rf "$tree/src"
git clone -q "$repository" "$tree/src"
inside "$python" -m venv "/venv-$python"
inside "/venv-$python/bin/pip" install -q -e '/src[test]'
inside "/venv-$python/bin/python" -VV
inside bash -c 'cd /src && exec "$@"' - "/venv-$python/bin/python" -m pytest -q "$@"
