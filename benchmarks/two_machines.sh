#!/usr/bin/env bash
# Run a command on two ranks in network namespaces, as if on two machines with a limited link between them:
#
#     sudo benchmarks/two_machines.sh 1gbit 50us numbacnn bench train --mpi --threads 1 --model lenet5
#
# It needs Linux, root, iproute2 and MPICH. The delay is that of each direction; it needs the kernel's sch_netem, without
# which only the rate is limited (sch_tbf), and a line says so. All messages take the link, since ranks are told that
# they share no memory.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,8s/^# \?//p' "$0" >&2; exit 2; }
rate=$1 delay=$2
shift 2

launcher=$(mktemp)
name=rank-$$- # of the namespaces
trap 'for i in 1 2; do ip netns del "$name$i" 2>/dev/null || true; done; rm -f "$launcher"' EXIT
for i in 1 2; do ip netns add "$name$i"; done
ip link add wire netns "${name}1" type veth peer name wire netns "${name}2"
limit() { ip netns exec "$name$1" tc qdisc replace dev wire root "${@:2}"; }
netem=true
limit 1 netem delay 1ms 2>/dev/null || netem=false
$netem || echo "this kernel has no netem: the link has $rate, but no delay" >&2
for i in 1 2; do
    ip netns exec "$name$i" ip addr add "10.77.0.$i/24" dev wire
    ip netns exec "$name$i" ip link set wire up
    ip netns exec "$name$i" ip link set lo up
    if $netem; then
        limit "$i" netem rate "$rate" delay "$delay" limit 100000
    else
        limit "$i" tbf rate "$rate" burst 256kb latency 100ms
    fi
done

for i in 1 2; do # the kernel reports the link with a delay
    until ip netns exec "$name$i" ip -br link show wire | grep -q UP; do sleep 0.1; done
done

# mpiexec starts a process on each host with "launcher -x HOST COMMAND…"
cat >"$launcher" <<END
#!/bin/sh
while [ "\${1#-}" != "\$1" ]; do shift; done
host=\$1; shift
exec ip netns exec "$name\${host##*.}" sh -c "\$*"
END
chmod +x "$launcher"
export MPIR_CVAR_CH4_NETMOD=ofi FI_PROVIDER=tcp FI_TCP_IFACE=wire MPIR_CVAR_NOLOCAL=1
ip netns exec "${name}1" mpiexec -launcher ssh -launcher-exec "$launcher" -hosts 10.77.0.1,10.77.0.2 -ppn 1 -n 2 "$@"
