/* SPDX-License-Identifier: Apache-2.0 */
/* CNI configuration and results, parsed in one place (CNI spec 0.4.0 to 1.1.0). */
#pragma once

#include "network/network_internal.h"
#include "wire/json.h"

struct cni_list {
	jv *doc;		    /* owned: jv_free() */
	const char *name, *version; /* borrowed from it */
	bool disable_check, disable_gc;
	jv *plugins[CNI_PLUGINS_MAX];
	size_t n_plugins;
	bool single; /* a *.conf: `doc` is its only plugin */
};

/* Parses a configuration list (*.conflist) or a single plugin (*.conf, *.json). */
int cni_list_parse(const char *text, size_t n, const char *what, struct cni_list *ret,
		   struct err *e);
/* The first good file of conf_dir in lexical order; errors name what is wrong with the bad. */
int cni_list_load(const char *conf_dir, struct cni_list *ret, struct err *e);
void cni_list_fini(struct cni_list *l);

/* The program's input for a plugin: its configuration with name, cniVersion, runtimeConfig
 * (capabilities that it declares and the pod has) and prevResult put in. */
void cni_plugin_input(const struct cni_list *l, size_t i, const struct network_pod *p,
		      const char *prev_result, const char *attachments, struct strbuf *to);

/* Checks a result and gives its addresses without prefix, space-separated. */
int cni_result_parse(const char *text, size_t n, struct strbuf *ret_ips, struct err *e);
/* The message of a plugin's error object, or NULL where `text` is none. owned */
char *cni_error_message(const char *text, size_t n);
/* True when the version is at least major.minor. */
bool cni_version_at_least(const char *version, unsigned major, unsigned minor);
