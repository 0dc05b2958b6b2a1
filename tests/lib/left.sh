# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What a gantry leaves on a machine. To be sourced.

monitors()
{
	grep -lz '^gantry-monitor' /proc/[0-9]*/cmdline 2>/dev/null
}

# What is to be seen of a gantry that has been purged.
nothing_is_left()
{
	local left
	[ ! -e /var/lib/gantry ] || { echo "/var/lib/gantry is left"; return 1; }
	[ ! -e /run/gantry ] || { echo "/run/gantry is left"; return 1; }
	! grep -E ' (/run/gantry|/run/netns/|/var/lib/gantry)' /proc/mounts || return 1
	[ -z "$(ls /run/netns 2>/dev/null)" ] || { echo "network namespaces are left"; return 1; }
	! monitors | grep . || return 1
	[ ! -e /sys/class/net/gantry0 ] || { echo "the bridge is left"; return 1; }
	! nft list tables | grep gantry || return 1
	# (v1's memory is the machine's: see make_cgroups.)
	left=$(find /sys/fs/cgroup -name '*gantry*' ! -path '*/gantry.service*' \
		! -path '/sys/fs/cgroup/memory/*')
	[ -z "$left" ] || { echo "cgroups are left: $left"; return 1; }
}
