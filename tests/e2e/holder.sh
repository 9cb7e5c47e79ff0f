#!/bin/sh
# The first process of a container node, in mount, network, process and UTS namespaces of its own:
# holder.sh NAME DIRECTORY. Prepares them, says "ready" and waits; with it, all of the node ends.
#
# Whatever programs of a node write outside DIRECTORY lands in memory and ends with the node.
set -eu
name=$1
directory=$2

echo "$name" > /proc/sys/kernel/hostname

mount -t tmpfs tmpfs /run
mkdir -p /run/containerd /run/netns
for tree in var etc; do
    mkdir -p "/run/overlay/$tree/upper" "/run/overlay/$tree/work"
    options="lowerdir=/$tree,upperdir=/run/overlay/$tree/upper,workdir=/run/overlay/$tree/work"
    mount -t overlay overlay -o "$options" "/$tree"
done

# /sys shows the network namespace of whoever mounts it; the cgroups below are the machine's.
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup

# Settings of the whole machine that kubelet insists on: it gets files to write to.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    if [ -e "/proc/sys/$setting" ]; then
        mkdir -p "/run/settings/${setting%/*}"
        cp "/proc/sys/$setting" "/run/settings/$setting"
        mount --bind "/run/settings/$setting" "/proc/sys/$setting"
    fi
done

# Settings of this network namespace. Bridged traffic must pass through iptables, or an answer
# from a pod to its neighbour would not find its way back through a Service.
for setting in ipv4/ip_forward=1 bridge/bridge-nf-call-iptables=1 ipv4/conf/all/rp_filter=0; do
    if [ -e "/proc/sys/net/${setting%=*}" ]; then
        echo "${setting#*=}" > "/proc/sys/net/${setting%=*}"
    fi
done

# What kubelet mounts must be seen by the containers' shims.
mount --make-rshared /

echo ready > "$directory/ready"
exec sleep 2147483647
