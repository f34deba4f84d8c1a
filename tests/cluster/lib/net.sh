# Machines: network namespaces on one bridge, inside a network namespace of our own, which takes all of it with it when it ends.
# shellcheck shell=bash

NET=10.77.0
# name=last number of its address; the clients are at .1, on the bridge itself
MACHINES='postgres=5 proxy=10 redis1=21 redis2=22 node1=31 node2=32 node3=33'

start_net() {
  local entry name number
  # `ip netns` keeps its names as files: here they are nobody else's, and gone with our mounts
  mkdir -p /run/netns && mount -t tmpfs netns /run/netns || return 1
  ip link set lo up
  ip link add bridge0 type bridge && ip link set dev bridge0 up && ip addr add "$NET.1/24" dev bridge0 || return 1
  for entry in $MACHINES; do
    name=${entry%=*} number=${entry#*=}
    ip netns add "$name" \
      && ip link add "v-$name" type veth peer name eth0 netns "$name" \
      && ip link set dev "v-$name" master bridge0 up \
      && ip -n "$name" addr add "$NET.$number/24" dev eth0 \
      && ip -n "$name" link set eth0 up && ip -n "$name" link set lo up || return 1
    # A blackhole must come before the table of local addresses, and before what the kernel remembers of a connection.
    ip -n "$name" rule add pref 100 lookup local && ip -n "$name" rule del pref 0 || return 1
    nsenter --net="/run/netns/$name" sysctl -qw net.ipv4.ip_early_demux=0 || return 1
  done
}
