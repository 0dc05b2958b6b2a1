/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CNI configurations and what plugins print, parsed in one place (CNI spec 0.3.0 to 1.1.0).
 * Pure, but for cni_list_load().
 */
#pragma once

#include "network/network_internal.h"
#include "wire/json.h"

#define CNI_CONF_MAX (1u << 20)	  /* bytes of a configuration file */
#define CNI_PLUGINS_MAX 32	  /* in one list */
#define CNI_VERSIONS_MAX 16	  /* in one cniVersions, and of one plugin */
#define CNI_RESULT_MAX (1u << 20) /* bytes that a plugin may print */
#define CNI_IPS_MAX 64		  /* addresses of one result */

struct cni_list {
	jv *docs[CNI_PLUGINS_MAX + 1]; /* owned; the rest is borrowed from them */
	size_t n_docs;
	const char *name;
	const char *versions[CNI_VERSIONS_MAX + 1]; /* that gantry speaks too, newest first */
	size_t n_versions;
	const char *version; /* the one in use */
	bool disable_check, disable_gc, only_inlined;
	jv *plugins[CNI_PLUGINS_MAX];
	size_t n_plugins;
};

/* A configuration list (*.conflist) or a single plugin (*.conf, *.json).  n_plugins is 0 only
 * where the list leaves them all to its directory. */
int cni_list_parse(const char *text, size_t n, const char *what, struct cni_list *ret,
		   struct err *e);
/* The first file of conf_dir in lexical order (*.conflist, *.conf, *.json), with the plugins
 * in conf_dir/NAME/ *.conf that belong to it.  One that is not good is an error, never a reason
 * to take the next: that would be another network.  FAILED_PRECONDITION. */
int cni_list_load(const char *conf_dir, struct cni_list *ret, struct err *e);
void cni_list_fini(struct cni_list *l);
/* The list as one document that cni_list_parse() reads, with the version in use; appended. */
void cni_list_print(const struct cni_list *l, struct strbuf *to);

/* What a plugin is given on its standard input. */
struct cni_input {
	bool attachment;	 /* of ADD, DEL, CHECK: runtimeConfig belongs into it */
	const jv *capabilities;	 /* what the runtime has, by capability; may be NULL */
	const char *prev_result; /* JSON, NULL none */
	const char *valid;	 /* GC: JSON of cni.dev/valid-attachments, NULL none */
};
void cni_plugin_input(const struct cni_list *l, size_t i, const struct cni_input *in,
		      struct strbuf *to);

/*
 * Checks the result of an ADD.  ret_result: the same with cniVersion `version`, as the next
 * plugin gets it.  ret_ips: the addresses of the interface `ifname` without prefix,
 * space-separated.  Both are replaced.  -EBADMSG.
 */
int cni_result_parse(const char *text, size_t n, const char *version, const char *ifname,
		     struct strbuf *ret_result, struct strbuf *ret_ips, struct err *e);
/* A plugin's error object: "MSG: DETAILS (code N)" appended, the code returned; -1 and nothing
 * where `text` is none. */
int cni_error_parse(const char *text, size_t n, struct strbuf *ret);
/* supportedVersions of a VERSION reply, space-separated, appended; -EBADMSG. */
int cni_versions_parse(const char *text, size_t n, struct strbuf *ret, struct err *e);

/* True when the version is at least major.minor. */
bool cni_version_at_least(const char *version, unsigned major, unsigned minor);
