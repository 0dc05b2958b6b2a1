/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled seccomp filters, kept by profile.
 *
 * crun as Debian 12 has it compiles a container's profile anew each time: 15 ms for the default
 * one.  What it compiled lies in its state directory; the daemon keeps it and hands it to the
 * next container of the same profile and runtime, as crun's annotation run.oci.seccomp_bpf_data.
 * Other runtimes, and a crun that does not know the annotation, compile what config.json says.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ipc_in;
struct node;
struct node_runtime;

/* The annotation's value for a profile (JSON, NULL: none); NULL where it was not compiled yet.
 * borrowed until the next filter_keep() */
const char *filter_find(const struct node *n, const struct node_runtime *rt, const char *profile);
/* Keeps what the runtime made of it, where the reply to MON_CREATE has that (MON_TAG_FILTER). */
void filter_keep(struct node *n, const struct node_runtime *rt, const char *profile,
		 const struct ipc_in *reply);
void filter_free_all(struct node *n);

/* What a profile needs of a runtime (RCAP_BIT()s); that of the last one is kept. */
struct needs_facts;
uint64_t filter_needs(struct node *n, const char *profile, const struct needs_facts *f);
