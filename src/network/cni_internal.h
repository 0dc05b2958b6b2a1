/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of cni.c: running plugins, and the records of what was run for whom. */
#pragma once

#include "network/cni_conf.h"

#define CNI_IF "eth0"
#define CNI_GC_TIMEOUT_US UINT64_C(10000000) /* of one GC: pods wait for it meanwhile */

/* Who a plugin is run for: strings are borrowed, NULL or "" where there is none. */
struct cni_pod {
	const char *id, *name, *namespace_, *uid;
	const char *netns; /* "" for one that is gone */
	int cancel_fd;	   /* stops an ADD; -1 none */
};

/* The path of a plugin's program, owned; NULL where no directory has it. */
char *cni_plugin_find(const struct network_config *c, const char *type);
/* FAILED_PRECONDITION naming the first plugin of the list that is not there. */
int cni_plugins_present(const struct network_config *c, const struct cni_list *l, struct err *e);
/* Runs one plugin; what it printed is appended to ret_out (NULL: dropped).  `p` NULL: of no
 * pod.  Errors carry the plugin, the command, and the plugin's code and message. */
int cni_plugin_run(const struct network_config *c, const struct cni_pod *p, const char *type,
		   const char *command, const struct strbuf *input, uint64_t timeout_us,
		   struct strbuf *ret_out, struct err *e);
/*
 * Sets l->version to the newest of l->versions that all plugins speak (CNI VERSION, remembered
 * until the program changes; a plugin that does not know VERSION is taken to speak all).
 * FAILED_PRECONDITION where there is none.
 */
int cni_choose_version(const struct network_config *c, struct cni_list *l, struct err *e);

/* What was used for a pod, kept until its DEL is done. */
struct cni_record {
	jv *doc;
	struct cni_list list;
	struct strbuf result; /* empty: ADD did not finish */
	struct cni_pod pod;   /* borrowed from doc, but for id and cancel_fd */
	const jv *capabilities;
};
int cni_record_write(const struct network_config *c, const struct cni_pod *p,
		     const struct cni_list *l, const char *capabilities, const char *result,
		     struct err *e);
/* -ENOENT: the pod has none.  -EBADMSG: it is damaged. */
int cni_record_read(const struct network_config *c, const char *pod_id, struct cni_record *ret,
		    struct err *e);
void cni_record_fini(struct cni_record *r);
int cni_record_remove(const struct network_config *c, const char *pod_id, struct err *e);
/* The pods that have one; appended. */
int cni_record_list(const struct network_config *c, struct strv *ret, struct err *e);
