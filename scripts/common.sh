# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # much of it is for those who source it
#
# What the scripts share.  To be sourced; sets TOP, and moves there.

set -euo pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$TOP"
# Daemons and their tools are in sbin, which is not in everybody's PATH.
export PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Debian's, which sees Debian's modules, whatever else is first in PATH.
PYTHON=/usr/bin/python3
LOGS=$TOP/build/logs

say()
{
	printf '==> %s\n' "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# usage STATUS: prints the comment at the head of the script.
usage()
{
	sed -n '/^# Usage:/,/^[^#]/{/^#/!d;s/^# \{0,1\}//p}' "$0"
	exit "$1"
}

need_root()
{
	[ "$(id -u)" = 0 ] || die "must be run as root"
}

# with_log NAME COMMAND...: its output goes to build/logs/NAME.log; the end of it is shown
# where it fails.
with_log()
{
	local log=$LOGS/$1.log
	shift
	mkdir -p "$LOGS"
	if ! "$@" >"$log" 2>&1 </dev/null; then
		tail -n 40 "$log" >&2
		printf '%s: failed: %s (all of it: %s)\n' "${0##*/}" "$*" "$log" >&2
		return 1
	fi
}

# packages KIND...: their names for this release, or for $RELEASE, from scripts/packages.
packages()
{
	local release=${RELEASE:-}
	# shellcheck source=/dev/null
	[ -n "$release" ] || release=$(. /etc/os-release && echo "${VERSION_ID:-}")
	awk -v kinds=" $* " -v release="$release" '
		function wanted(list, i, n, kind)
		{
			n = split(list, kind, ",")
			for (i = 1; i <= n; i++)
				if (index(kinds, " " kind[i] " "))
					return 1
		}
		/^#/ || !NF || !wanted($1) { next }
		NF == 2 { print $2; next }
		{ for (i = 3; i <= NF; i++) if ($i == release) print $2 }' "$TOP/scripts/packages"
}

missing_packages()
{
	local p
	for p in $(packages "$@"); do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
			echo "$p"
	done
}

# What talks to a package registry is run by this: tests/fresh lets nothing else out.
outside()
{
	${GANTRY_OUTSIDE:-} "$@"
}

apt_get()
{
	DEBIAN_FRONTEND=noninteractive outside apt-get -q -y -o DPkg::Lock::Timeout=600 \
		-o Acquire::Retries=3 -o Dpkg::Options::=--force-confold "$@"
}

# Services that start with packages of the tests, and that nobody asked for.
unwanted_services="docker-registry.service:docker-registry
cni-dhcp.service:containernetworking-plugins cni-dhcp.socket:containernetworking-plugins"

# apt_install KIND...: installs what is missing of scripts/packages.
apt_install()
{
	local missing s
	command -v apt-get >/dev/null || die "no apt-get: this script knows Debian 12 and 13"
	mapfile -t missing < <(missing_packages "$@")
	[ "${#missing[@]}" -gt 0 ] || return 0
	say "installing ${missing[*]}"
	with_log apt-update apt_get update
	with_log apt-install apt_get install --no-install-recommends "${missing[@]}"
	if [ -d /run/systemd/system ]; then
		for s in $unwanted_services; do
			case " ${missing[*]} " in
			*" ${s#*:} "*) systemctl disable --now "${s%:*}" >/dev/null 2>&1 || true ;;
			esac
		done
	fi
}

# configure DIR MESON_OPTION...: a build directory, set up once.
configure()
{
	local dir=$1
	shift
	if [ -f "$dir/build.ninja" ]; then
		meson configure "$dir" "$@"
	else
		meson setup "$dir" "$@"
	fi
}

# --- the daemon that scripts/up starts ---

DAEMON=/usr/local/sbin/gantryd
DAEMON_LOG=/var/log/gantryd.log
DAEMON_PIDFILE=/run/gantryd.pid
MANIFEST=/usr/local/share/gantry/manifest # the files that scripts/up installed

# Where gantry was installed as a package, that one has the unit, the state and the pods.
no_package()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' gantry 2>/dev/null)" != installed ] ||
		die "the Debian package gantry is installed here: remove it first (apt remove gantry; its" \
			"pods go on, and what scripts/up installs finds them), or upgrade it (scripts/package)"
}

has_systemd()
{
	[ -d /run/systemd/system ]
}

# The daemon's process id, where it runs without systemd.
daemon_pid()
{
	local pid exe
	pid=$(cat "$DAEMON_PIDFILE" 2>/dev/null) || return 1
	exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
	[ "${exe% (deleted)}" = "$DAEMON" ] && echo "$pid"
}

# same_program PID: does it run what is installed now?
same_program()
{
	cmp -s "/proc/$1/exe" "$DAEMON"
}

daemon_stop()
{
	local i
	kill "$1"
	for ((i = 0; i < 200; i++)); do
		[ -e "/proc/$1" ] || break
		sleep 0.1
	done
	[ ! -e "/proc/$1" ] || kill -9 "$1"
	rm -f "$DAEMON_PIDFILE"
}

start_with_systemd()
{
	say "gantry.service"
	systemctl daemon-reload
	systemctl enable --quiet gantry.service
	if systemctl is-active --quiet gantry.service; then
		pid=$(systemctl show -p MainPID --value gantry.service)
		same_program "$pid" || systemctl restart gantry.service
	else
		systemctl start gantry.service
	fi || { journalctl -u gantry.service -n 30 --no-pager; die "gantryd did not start"; }
}

start_without_systemd()
{
	local pid
	if pid=$(daemon_pid); then
		if same_program "$pid"; then
			say "gantryd runs already (process $pid)"
			return
		fi
		say "gantryd is replaced; its pods go on"
		daemon_stop "$pid"
	fi
	say "gantryd (log: $DAEMON_LOG)"
	setsid "$DAEMON" >>"$DAEMON_LOG" 2>&1 </dev/null &
	echo $! >"$DAEMON_PIDFILE"
}

wait_until_it_serves()
{
	local i
	for ((i = 0; i < 300; i++)); do
		gantry version >/dev/null 2>&1 && return
		# (Its program may not be in place yet: only that there is a process is asked for.)
		if ! has_systemd && [ ! -e "/proc/$(cat "$DAEMON_PIDFILE")" ]; then
			tail -n 20 "$DAEMON_LOG" >&2
			die "gantryd did not start"
		fi
		sleep 0.1
	done
	die "gantryd does not answer: $(gantry version 2>&1)"
}

# The daemon in force is the one that is installed, with the pods that there are.
start_daemon()
{
	if has_systemd; then
		start_with_systemd
	else
		start_without_systemd
	fi
}
