/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of one runtime on this host: its program, its version, what it can do, what is in the
 * way.  Asked of the program itself, which is somebody else's: what it prints is bounded, and it has
 * little time.  Blocking: for jobs of the monitor and for commands.
 */
#pragma once

#include "runtime/caps.h"
#include "runtime/runtime.h"

struct runtime_report {
	char *path;    /* of the program; "": there is none */
	char *version; /* "1.8.1", of `--version` */
	char *problem; /* why it does not work here; "": it does */
	char *note;    /* why there is no `features` document; "": there is one */
	char *key;     /* runtime_key() when it was asked */
	struct runtime_caps caps;
};
#define RUNTIME_REPORT_NULL ((struct runtime_report){0})

void runtime_report_fini(struct runtime_report *r);
#define _cleanup_runtime_report_ __attribute__((cleanup(runtime_report_fini)))

/*
 * Asks the program for its version and features, and takes away what the host lacks; no container is
 * run.  A program that is not there, or does not answer within RUNTIME_ASK_TIMEOUT, is a report with a
 * problem; one without usable `features` is a report with a note.  `ret` is filled always.
 */
#define RUNTIME_ASK_TIMEOUT (5 * USEC_PER_SEC) /* of each question */
void runtime_report_ask(const struct runtime *rt, const struct runtime_host *h,
			struct runtime_report *ret);

/*
 * What a report stands on, as one line: the program's file (place, size, times) and arguments, the
 * kernel and what it offers, the cgroups' version and driver, CRIU.  Two that are equal make a report
 * of one good for the other.  Of a program that is a script the interpreter and what it starts are not
 * in it.  owned
 */
char *runtime_key(const struct runtime *rt, const struct runtime_host *h);

/* As JSON, appended, and read again: at most RUNTIME_REPORT_MAX bytes.  INVALID_ARGUMENT. */
#define RUNTIME_REPORT_MAX (256u << 10)
void runtime_report_print(const struct runtime_report *r, struct strbuf *to);
int runtime_report_read(const char *text, size_t n, struct runtime_report *ret, struct err *e);

/* In a file, replaced as a whole.  Loading gives -ENOENT where there is none that can be read, and
 * -ESTALE for one with another key or a problem: those are looked at anew. */
int runtime_report_save(const char *file, const struct runtime_report *r);
int runtime_report_load(const char *file, const char *key, struct runtime_report *ret);

/*
 * What a runtime needs of the node besides its program, by the names of `runtimes.NAME.needs`: "kvm"
 * (/dev/kvm can be used), "unix:PATH" (somebody listens on that socket), "program:NAME" (is installed),
 * "file:PATH" (is there).  FAILED_PRECONDITION "needs kvm: ...".
 */
int runtime_facility_check(const char *name, struct err *e);
