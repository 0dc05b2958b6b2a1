# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # some of it is for those who source it
#
# Roots of new Debian machines, by debootstrap, and what is needed to run something in them. To be
# sourced after common.sh; who makes or enters roots does so after own_mounts.
#
# Bases and downloaded packages are kept in .cache/fresh. Inside, only the clients of package
# registries reach the network, through the namespace that the script runs in; all else has a
# network namespace with nothing but `lo`. Settings that lead this machine's clients to their
# servers (mirror, proxy, CA bundle, pip.conf, Go's environment) go along.

CACHE=${GANTRY_CACHE:-$TOP/.cache}/fresh # worktrees may share one
BASE_MAX_AGE=30 # days until a base is made anew
RAM_NEEDED=12   # GiB available, for a root to be in memory
declare -A SUITE=([12]=bookworm [13]=trixie)

# own_mounts ARGUMENT...: the script again, with these arguments, in a mount namespace already
# here: the roots' file systems go with it.
own_mounts()
{
	[ -n "${GANTRY_OWN_MOUNTS:-}" ] ||
		GANTRY_OWN_MOUNTS=1 exec unshare --mount --propagation private "$0" "$@"
}

mirror()
{
	local found
	found=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[.*\] \)\{0,1\}\([^ ]*\).*/\2/p' \
		/etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
		grep -m1 '/debian/*$' || true)
	echo "${found:-http://deb.debian.org/debian}"
}

# --- the root ---

# make_base RELEASE: the base system as a tar file, from the cache where it is young enough. Those
# who want it at the same time wait for the first.
make_base()
{
	local suite=${SUITE[$1]} tar=$CACHE/${SUITE[$1]}.tar dir lock
	mkdir -p "$CACHE"
	exec {lock}>"$CACHE/$suite.lock"
	flock "$lock"
	[ -n "$(find "$tar" -mtime -$BASE_MAX_AGE 2>/dev/null)" ] || debootstrap_base "$suite" "$tar"
	exec {lock}>&-
}

debootstrap_base()
{
	local suite=$1 tar=$2 dir
	if ! command -v debootstrap >/dev/null; then
		with_log fresh-debootstrap apt_get install --no-install-recommends debootstrap
	fi
	say "debootstrap $suite"
	rm -rf --one-file-system "$CACHE/base-$suite".*
	dir=$(mktemp -d "$CACHE/base-$suite.XXXXXX")
	with_log "fresh-debootstrap-$suite" debootstrap --variant=minbase "$suite" "$dir" "$(mirror)"
	rm -f "$dir"/var/cache/apt/archives/*.deb
	tar -C "$dir" -cf "$tar.new" .
	mv "$tar.new" "$tar"
	date +%s.%N >"$tar.id"
	rm -rf "$dir"
}

# The network settings of this machine's package clients, for those inside.
copy_settings()
{
	local root=$1 suite=$2 m f
	m=$(mirror)
	cat >"$root/etc/apt/sources.list" <<-END
		deb $m $suite main
		deb $m $suite-updates main
		deb ${m%/debian*}/debian-security $suite-security main
	END
	for f in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
		if [ -f "$f" ] && grep -q '^ *Acquire' "$f"; then
			grep '^ *Acquire' "$f" >"$root/etc/apt/apt.conf.d/90${f##*/}"
		fi
	done
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
	[ ! -f /etc/ssl/certs/ca-certificates.crt ] ||
		cp /etc/ssl/certs/ca-certificates.crt "$root/.fresh/ca.crt"
	echo 127.0.0.1 localhost fresh >"$root/etc/hosts"
}

# The command that package clients are run by (common.sh: outside): it enters the outer network
# namespace, with the settings of this machine's clients.
make_way_out()
{
	local root=$1
	{
		echo '#!/bin/sh'
		[ ! -f "$root/.fresh/ca.crt" ] ||
			printf 'export %s=/.fresh/ca.crt\n' SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE
		env | grep -iE '^((https?|no|all)_proxy|PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST))=' |
			sed "s/=/='/; s/^/export /; s/\$/'/" || true
		! command -v go >/dev/null ||
			printf "export %s='%s'\n" GOPROXY "$(go env GOPROXY)" GOSUMDB "$(go env GOSUMDB)"
		echo 'exec nsenter --net=/.fresh/net "$@"'
	} >"$root/.fresh/outside"
	chmod +x "$root/.fresh/outside"
}

# make_root ROOT SUITE [TAR]: the base, or TAR, in ROOT, ready for enter.
make_root()
{
	local root=$1 suite=$2
	tar -C "$root" -xf "${3:-$CACHE/$suite.tar}"
	chmod 755 "$root" # the base was made by mktemp: services are not root
	mkdir -p "$root/.fresh/old" "$root/src" "$CACHE/$suite-packages"
	touch "$root/.fresh/net"
	copy_settings "$root" "$suite"
	make_way_out "$root"
	cp "$TOP/scripts/root-inside" "$root/.fresh/inside"
}

# In memory, where there is enough: the file system goes with this process's mount namespace.
root_in_memory()
{
	! awk -v gib=$RAM_NEEDED '/^MemAvailable:/ { exit $2 < gib * 1048576 }' /proc/meminfo ||
		mount -t tmpfs -o mode=755 fresh "$1"
}

remove_root()
{
	umount "$1" 2>/dev/null || true
	rm -rf --one-file-system "$1"
}

# --- what runs there ---

# Cgroups of a run's own, so that what goes on inside is nothing to the machine: in every
# hierarchy that is mounted here, except for v1's memory, where leaving one's cgroup may mean
# leaving one's limit. A host with v2 alone gives its tree as it is, to all but systemd: who is in
# a cgroup cannot give its controllers to children of it.
cgroup_mounts()
{
	awk '$3 ~ /^cgroup2?$/ && $2 ~ "^/sys/fs/cgroup" { print $2 }' /proc/mounts | sort -u
}

make_cgroups()
{
	local m f
	for m in $(cgroup_mounts); do
		case $m in
		*/memory*) continue ;;
		/sys/fs/cgroup) [ -n "$2" ] || continue ;;
		esac
		mkdir "$m/$1"
		for f in cpuset.cpus cpuset.mems; do
			[ ! -e "$m/$1/$f" ] || [ -e "$m/cgroup.controllers" ] || cat "$m/$f" >"$m/$1/$f"
		done
	done
}

remove_cgroups()
{
	local m
	for m in $(cgroup_mounts); do
		[ ! -d "$m/$1" ] || find "$m/$1" -depth -type d -exec rmdir {} \; || true
	done
}

# enter ROOT PACKAGES COMMAND...: in new namespaces; when the first process inside ends, the
# kernel ends everything else there. Downloaded packages are in the directory PACKAGES. `boots` is
# set where the command becomes systemd.
enter()
{
	local root=$1 packages=$2 id=gantry-fresh-$$ status=0
	shift 2
	make_cgroups "$id" "${boots:-}"
	# shellcheck disable=SC2016
	setpriv --pdeathsig KILL bash -c '
		for d in $(find /sys/fs/cgroup -maxdepth 2 -type d -name "$1"); do
			echo $$ >"$d/cgroup.procs"
		done
		shift
		exec "$@"' move "$id" \
		unshare --cgroup --mount --propagation private bash -c '
		set -e
		root=$1 packages=$2
		shift 2
		mount --bind "$root" "$root"
		mount --bind /proc/self/ns/net "$root/.fresh/net"
		mkdir -p "$root/var/cache/apt/archives"
		mount --bind "$packages" "$root/var/cache/apt/archives"
		exec env -i "TERM=${TERM:-dumb}" LANG=C.UTF-8 HOME=/root CI=true \
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			unshare --pid --net --ipc --uts --fork --kill-child \
			bash "$root/.fresh/inside" "$root" "$@"' enter "$root" "$packages" "$@" || status=$?
	remove_cgroups "$id"
	return "$status"
}
