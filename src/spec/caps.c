/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities: names, defaults, what a request makes of them (capabilities(7)). */
#include <strings.h>

#include "base/mem.h"
#include "spec/spec.h"

static const char *const names[SPEC_CAPS] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

/* The set that the field agrees on: enough for daemons that drop root, no more. */
static const unsigned char defaults[] = {
	0 /* CHOWN */,	      1 /* DAC_OVERRIDE */, 3 /* FOWNER */,
	4 /* FSETID */,	      5 /* KILL */,	    6 /* SETGID */,
	7 /* SETUID */,	      8 /* SETPCAP */,	    10 /* NET_BIND_SERVICE */,
	13 /* NET_RAW */,     18 /* SYS_CHROOT */,  27 /* MKNOD */,
	29 /* AUDIT_WRITE */, 31 /* SETFCAP */,
};

int spec_cap_number(const char *name)
{
	for (int i = 0; i < SPEC_CAPS; i++)
		if (strcasecmp(name, names[i]) == 0 || strcasecmp(name, names[i] + 4) == 0)
			return i;
	return -1;
}

const char *spec_cap_name(unsigned number)
{
	return number < SPEC_CAPS ? names[number] : NULL;
}

uint64_t spec_caps_default(void)
{
	uint64_t v = 0;

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
		v |= UINT64_C(1) << defaults[i];
	return v;
}

static uint64_t bits(char *const *list, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++) {
		int number = spec_cap_number(list[i]);

		if (strcasecmp(list[i], "ALL") == 0)
			v = UINT64_MAX;
		else if (number >= 0)
			v |= UINT64_C(1) << number;
	}
	return v;
}

/* "ALL" first, then single ones: drop ALL with add X is X, add ALL with drop X is all but X. */
uint64_t spec_caps_of(const Runtime__V1__LinuxContainerSecurityContext *sc, uint64_t host)
{
	uint64_t v = spec_caps_default(), add = 0, drop = 0;
	const Runtime__V1__Capability *c = sc ? sc->capabilities : NULL;

	if (sc && sc->privileged)
		return host;
	if (c) {
		add = bits(c->add_capabilities, c->n_add_capabilities) |
		      bits(c->add_ambient_capabilities, c->n_add_ambient_capabilities);
		drop = bits(c->drop_capabilities, c->n_drop_capabilities);
	}
	if (drop == UINT64_MAX)
		v = add;
	else
		v = (v | add) & ~drop;
	return v & host;
}
