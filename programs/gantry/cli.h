/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantry, the human's tool: what its files share.
 *
 * A command is a row of a const table (struct command); help, completion and the manual
 * page's list of commands derive from these rows.  Its function returns the exit status.
 * Everything that a command allocates lives in cli->arena, which ends with the program.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdio.h>

#include "api.pb-c.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "gantry.pb-c.h"
#include "wire/grpc_client.h"

#define CLI_ADDRESS "/run/gantry/gantry.sock"
#define CLI_READ_TIMEOUT (30 * USEC_PER_SEC) /* of a request that only reads */

/* Exit statuses; run and exec pass on the container's. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_OURS = 125,	/* run, exec: gantry failed, not the command */
	EXIT_CANNOT_RUN = 126,	/* run, exec: the command cannot be executed */
	EXIT_NO_COMMAND = 127,	/* run, exec: there is no such command */
	EXIT_INTERRUPTED = 130, /* SIGINT, SIGTERM or SIGHUP came */
};

/* What a word on the command line stands for: for completion. */
enum complete {
	COMPLETE_NOTHING,
	COMPLETE_CONTAINER,
	COMPLETE_RUNNING, /* a running container */
	COMPLETE_POD,
	COMPLETE_TARGET, /* a pod or a container */
	COMPLETE_OBJECT, /* a pod, a container or an image */
	COMPLETE_IMAGE,
	COMPLETE_FILE,
	COMPLETE_HANDLER, /* a runtime handler */
	COMPLETE_COMMAND,
};

struct opt {
	char c;		     /* 0: none */
	const char *name;    /* long name */
	const char *metavar; /* NULL: a flag */
	const char *help;
	enum complete complete;
	const char *words; /* the values there are, separated by spaces; NULL: free */
	bool many;	   /* may be given more than once */
};

struct args {
	const struct command *command;
	const char **v; /* operands */
	size_t n;
	struct given {
		const struct opt *opt;
		const char *value; /* NULL: a flag */
	} * given;
	size_t n_given;
};

struct cli;
struct command {
	const char *name;
	const char *aliases;	/* separated by spaces; NULL: none */
	const char *operands;	/* as the usage shows them */
	const char *summary;	/* one line, no full stop */
	const char *text;	/* paragraphs, separated by '\n' */
	const char *examples;	/* lines */
	const struct opt *opts; /* ends with a NULL name; NULL: none */
	const char *without;	/* names of those that it does not take; NULL: it takes all */
	enum complete complete; /* its operands */
	const char *words;	/* the operands there are; NULL: free */
	unsigned min, max;	/* operands */
	bool own_options_first; /* what comes after the first operand belongs to a program */
	bool passes_status;	/* exit statuses of a program: our own failures are 125 */
	/* Commands of its own, "NAME SUB", in the order of the help; ends with NULL.  NULL: none */
	const struct command *const *subs;
	int (*run)(struct cli *cli, const struct args *a);
};

extern const struct command *const cli_commands[]; /* in the order of the help; ends with NULL */
extern const struct opt cli_options[];		   /* that every command takes */
#define UNLIMITED UINT32_MAX

struct cli {
	struct arena arena;
	const char *address;
	uint64_t timeout_us; /* of every request; 0: as each needs it */
	bool color;	     /* of standard output */
	bool tty;	     /* standard output is a terminal */
	const struct command *command;
	struct grpc_client *client; /* NULL: not connected (any more) */
	int cancel_fd;		    /* readable once a signal came */
	bool uncancellable;	    /* requests go on in spite of it: cleaning up */
};

/* --- args.c --- */

/* Parses what follows the command's name.  INVALID_ARGUMENT with a hint. */
int args_parse(struct cli *cli, const struct command *c, int argc, char **argv, struct args *ret,
	       struct err *e);
bool args_has(const struct args *a, const char *name);
const char *args_get(const struct args *a, const char *name); /* the last one; NULL: not given */
/* Values of an option given many times: start with *pos = 0; NULL at the end. */
const char *args_next(const struct args *a, const char *name, size_t *pos);
/* A value that must be one of opt.words, a duration, a number: INVALID_ARGUMENT. */
int args_duration(const struct args *a, const char *name, uint64_t otherwise, uint64_t *ret_us,
		  struct err *e);
int args_number(const struct args *a, const char *name, int64_t min, int64_t max, int64_t otherwise,
		int64_t *ret, struct err *e);
/* Those of a command in order: the first after NULL; NULL after the last. */
const struct opt *opt_next(const struct command *c, const struct opt *o);
const struct opt *opt_find(const struct command *c, const char *name);
const struct opt *opt_find_short(const struct command *c, char letter);
const struct command *command_find(const char *name);
/* "NAME SUB" by SUB; NULL: there is none. */
const struct command *command_find_sub(const struct command *c, const char *sub);
const char *command_word(const struct command *c); /* its last word */
/* The nearest of the commands, or of the command's options; NULL: none is near. static */
const char *command_suggest(const char *name);
const char *opt_suggest(const struct command *c, const char *name);

/* --- help.c --- */

int help_overview(void);
int help_command(const struct command *c);
void help_man(struct strbuf *to); /* the manual page's section COMMANDS, as roff */

/* --- rpc.c --- */

extern const ProtobufCServiceDescriptor *const RUNTIME, *const IMAGE, *const GANTRY;

/* One request, one reply, which lives in `a`.  ret: a pointer to a message pointer. */
int rpc_call_in(struct cli *cli, struct arena *a, const ProtobufCServiceDescriptor *service,
		const char *method, const void *request, void *ret, struct err *e);
/* The same in cli->arena. */
int rpc_call(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	     const void *request, void *ret, struct err *e);

/* A stream of replies; messages live in the arena that is given with each. */
struct rpc_stream {
	struct cli *cli;
	struct grpc_stream *s;
	const ProtobufCMessageDescriptor *type;
};
int rpc_open(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	     const void *request, struct rpc_stream *ret, struct err *e);
/* 1: a message; 0: the end; < 0 */
int rpc_next(struct rpc_stream *s, struct arena *a, void *ret, struct err *e);
void rpc_close(struct rpc_stream *s);

/* The same method for many objects at once; fn hears each result in order. */
int rpc_all(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	    const ProtobufCMessage *const *requests, size_t n,
	    void (*fn)(void *arg, size_t i, int r, const struct err *e), void *arg);

/* The value of a key of a verbose answer's `info` (any of the generated entry types). */
const char *rpc_info(const void *entries, size_t n, const char *key);

/* --- main.c --- */

/* Prints why to standard error, and gives the exit status for it. */
int cli_fail(const struct cli *cli, const struct err *e);
/* The same for a command line that makes no sense; `c` may be NULL. */
int cli_usage(const struct command *c, const struct err *e);
/* "gantry: warning: ..." */
void cli_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Writes to standard output; a pipe that nobody reads ends the program quietly. */
void cli_write(const void *p, size_t n);
void cli_print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool cli_cancelled(const struct cli *cli); /* a signal came */
/* Takes note of the signals that came, so that the next one can be told from them. */
void cli_cancel_clear(struct cli *cli);

/* --- output.c --- */

enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_YAML };
int output_format(const struct args *a, enum output *ret, struct err *e); /* -o */
/* A message as JSON (the proto3 mapping) or YAML. */
void output_message(enum output how, const ProtobufCMessage *m);
/* A JSON text, pretty or as YAML. */
void output_json(enum output how, const char *json, size_t n);
#define OPT_OUTPUT                                                                                 \
	{                                                                                          \
		.c = 'o', .name = "output", .metavar = "FORMAT", .help = "table, json or yaml",    \
		.words = "table json yaml"                                                         \
	}
#define OPT_NO_TRUNC                                                                               \
	{                                                                                          \
		.name = "no-trunc", .help = "show ids and names whole"                             \
	}
#define OPT_END                                                                                    \
	{                                                                                          \
		0                                                                                  \
	}

/* --- complete.c --- */

int complete_main(struct cli *cli, int argc, char **argv); /* gantry __complete ... */

/* --- the commands --- */

extern const struct command cmd_run, cmd_exec, cmd_attach, cmd_forward, cmd_logs, cmd_stop, cmd_rm,
	cmd_wait;
extern const struct command cmd_checkpoint, cmd_restore;
extern const struct command cmd_ps, cmd_pods, cmd_stats, cmd_inspect;
extern const struct command cmd_images, cmd_pull, cmd_load, cmd_save, cmd_import, cmd_rmi, cmd_tag,
	cmd_image;
extern const struct command cmd_route;
extern const struct command cmd_version, cmd_info, cmd_runtimes, cmd_metrics, cmd_completion,
	cmd_help;
