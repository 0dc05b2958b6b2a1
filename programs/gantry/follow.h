/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a container's log while it runs, until it has ended.
 *
 * The end is seen at the container's process (a pidfd), and asked for at the daemon; a
 * daemon that is restarted meanwhile is waited for.
 */
#pragma once

#include "cli.h"
#include "logfile.h"

struct follow {
	struct cli *cli;
	const char *id;
	const char *name; /* for messages, safe */
	struct log_options options;
	bool forever; /* follow; else what is there and no more */
	/* A signal came: 0 goes on, < 0 ends; NULL: it ends. */
	int (*on_signal)(struct follow *f, struct err *e);
	void *arg;

	/* what is found */
	Runtime__V1__ContainerStatus *status; /* the last that was seen; in cli->arena */
	int pidfd;
	bool ended, gone; /* exited; removed */
	bool lost;	  /* the daemon did not answer; said once */
	int delay_ms;
};

/* Shows the log.  On success status->exit_code is there when ended. */
int follow_run(struct follow *f, struct err *e);
/* Shows nothing and waits until the container has ended (or was removed: gone). */
int follow_end(struct follow *f, struct err *e);
