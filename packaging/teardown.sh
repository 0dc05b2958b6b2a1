# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2015
#
# Removes what a gantryd and its pods have on a machine when no daemon can do so any more. It is
# part of scripts/down, and of the package's postrm, where the programs have gone already: nothing
# but Debian's essential packages is needed. Doing it again is harmless.
#
# What CNI plugins hold is not released here: only a daemon knows how.

# gantry_set_defaults: what gantryd uses where no configuration says otherwise
gantry_set_defaults()
{
	gantry_root=/var/lib/gantry
	gantry_state=/run/gantry
	gantry_instance=gantry
	gantry_bridge=gantry0
	gantry_netns=/run/netns
}

# gantry_read_dump FILE: the same out of what `gantryd --dump-config` printed
gantry_read_dump()
{
	gantry_set_defaults
	gantry_root=$(sed -n 's/^root: "\(\/.*[^/].*\)"$/\1/p' "$1")
	gantry_state=$(sed -n 's/^state: "\(\/.*[^/].*\)"$/\1/p' "$1")
	gantry_instance=$(sed -n 's/^# instance: \(gantry[-0-9a-f]*\)$/\1/p' "$1")
	gantry_bridge=$(sed -n '/^bridge:/,/^[^ ]*:/s/^  name: "\(.*\)"$/\1/p' "$1")
	gantry_netns=$(sed -n '/^cni:/,/^[^ ]*:/s/^  netns_dir: "\(\/.*\)"$/\1/p' "$1")
	for value in "$gantry_root" "$gantry_state" "$gantry_instance" "$gantry_bridge" "$gantry_netns"; do
		if [ -z "$value" ]; then
			gantry_set_defaults
		fi
	done
}

# Ids of the pods and containers that left something here: 64 hexadecimal digits.
gantry_ids()
{
	for d in "$gantry_state"/pods/* "$gantry_state"/pods/*/containers/* "$gantry_root"/containers/*; do
		[ ! -d "$d" ] || echo "${d##*/}"
	done | grep -xE '[0-9a-f]{64}' | sort -u
}

# Monitors (also those that probe runtimes, and processes that hold shared PID namespaces), workers,
# and what they have started. Those of another root are another machine's, seen from a chroot.
gantry_helpers()
{
	grep -lz '^\(.*/\)\?gantry-\(monitor\|worker\)$' /proc/[0-9]*/cmdline 2>/dev/null | while read -r f; do
		p=${f%/cmdline}
		# shellcheck disable=SC3013 # dash has it
		[ "$p/root" -ef / ] || continue
		case $(head -z -n 1 "$f" 2>/dev/null | tr -d '\0') in
		*gantry-monitor) grep -qszF "$gantry_state/" "$f" || continue ;;
		*gantry-worker) find "$p/fd" -lname "$gantry_root/*" 2>/dev/null | grep -q . || continue ;;
		*) continue ;;
		esac
		gantry_family "${p#/proc/}"
	done
}

gantry_family()
{
	echo "$1"
	# shellcheck disable=SC2013
	for c in $(cat "/proc/$1"/task/*/children 2>/dev/null); do
		(gantry_family "$c")
	done
}

# Processes of containers, by the cgroup they are in; $1: the file with the ids
gantry_contained()
{
	[ -s "$1" ] || return 0
	grep -lFf "$1" /proc/[0-9]*/cgroup 2>/dev/null | sed 's,^/proc/\([0-9]*\)/.*,\1,' |
		while read -r p; do
			# (One that only waits for its parent is in its cgroup still.)
			grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$p/status" && echo "$p"
		done || true
}

# Cgroups of pods and containers, and those that are there for all; the innermost first. Not where
# nothing of ours ever ran: a chroot may see the machine's.
gantry_cgroups()
{
	[ -d /sys/fs/cgroup ] || return 0
	[ ! -s "$1" ] || find /sys/fs/cgroup -depth -type d | grep -Ff "$1" || true
	[ -n "$gantry_ran_here" ] || return 0
	# At the root of each hierarchy: further down are those of other machines.
	at=/sys/fs/cgroup
	[ -e "$at/cgroup.controllers" ] || at="$at/*"
	# shellcheck disable=SC2086
	find $at -mindepth 1 -maxdepth 1 -type d \
		\( -name "$gantry_instance" -o -name "$gantry_instance.slice" \) \
		-exec find {} -depth -type d \; 2>/dev/null || true
}

# All of them, until none is left: those that fork meanwhile, too. Fails after 20 seconds.
gantry_kill()
{
	tries=0
	while :; do
		if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
			gantry_cgroups "$1" | while read -r d; do
				echo 1 2>/dev/null >"$d/cgroup.kill" || true
			done
		fi
		helpers=$(gantry_helpers)
		# Stopped first: they would start something for what they see end.
		# shellcheck disable=SC2086
		[ -z "$helpers" ] || kill -STOP $helpers 2>/dev/null || true
		left="$(gantry_contained "$1") $helpers"
		[ -n "${left## }" ] || return 0
		# shellcheck disable=SC2086
		kill -KILL $left 2>/dev/null || true
		tries=$((tries + 1))
		if [ "$tries" -gt 200 ]; then
			# shellcheck disable=SC2086
			echo "gantry: processes that do not end:" $left >&2
			return 1
		fi
		sleep 0.1
	done
}

# Mounts at and below the state directory, below the root directory, and pins of network
# namespaces. The root directory itself may be somebody's disk.
gantry_mounts()
{
	[ ! -r /proc/self/mounts ] ||
		cut -d ' ' -f 2 /proc/self/mounts | while read -r m; do
			m=$(printf '%b_' "$(printf %s "$m" | sed 's/\\\([0-7]\)/\\0\1/g')")
			m=${m%_}
			case $m in
			"$gantry_state" | "$gantry_state"/* | "$gantry_root"/* | \
				"$gantry_netns/$gantry_instance"-????????????????) echo "$m" ;;
			esac
		done | sort -r
}

gantry_unmount()
{
	# Lazily: a process may be about to end. More than once: mounts lie on one another.
	for _ in 1 2 3; do
		gantry_mounts | while read -r m; do
			umount -l "$m" 2>/dev/null || true
		done
	done
}

# The bridge and the nft table. Only where this root's daemon made them: a chroot may share its
# network with the machine.
gantry_unlink_network()
{
	[ -e "$gantry_state/network/bridge.ready" ] || return 0
	if command -v ip >/dev/null; then
		ip link delete "$gantry_bridge" 2>/dev/null || true
	fi
	if command -v nft >/dev/null; then
		nft delete table inet "$gantry_instance" 2>/dev/null || true
	fi
}

# gantry_teardown: processes, mounts, network, cgroups, files. What cannot be removed is told, and
# makes it fail at the end.
gantry_teardown()
{
	failed=0
	gantry_ran_here=
	[ ! -d "$gantry_state" ] || gantry_ran_here=1
	ids=$(mktemp)
	gantry_ids >"$ids"
	gantry_kill "$ids" || failed=1
	# Without it systemd would keep the slice, and put back what is removed behind its back.
	if [ -n "$gantry_ran_here" ] && [ -d /run/systemd/system ]; then
		systemctl stop "$gantry_instance.slice" 2>/dev/null || true
	fi
	gantry_unmount
	rm -f "$gantry_netns/$gantry_instance"-????????????????
	gantry_unlink_network
	# Twice: systemd may be at it as well.
	for _ in 1 2; do
		gantry_cgroups "$ids" | while read -r d; do
			rmdir "$d" 2>/dev/null || true
		done
	done
	rm -f "$ids"
	rm -rf --one-file-system "$gantry_state" || failed=1
	# Only what gantry puts there: it may be a directory that has more in it.
	(cd "$gantry_root" 2>/dev/null && rm -rf --one-file-system cni containers images \
		index.db* layers lock logs tmp) ||
		[ ! -d "$gantry_root" ] || failed=1
	rmdir "$gantry_root" 2>/dev/null || true
	return "$failed"
}
