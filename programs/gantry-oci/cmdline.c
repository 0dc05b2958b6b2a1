/* SPDX-License-Identifier: Apache-2.0 */
/* See cmdline.h; the options are those of runc(8), crun(1), youki and runsc. */
#include "cmdline.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/str.h"

#define END                                                                                        \
	{                                                                                          \
		0                                                                                  \
	}
#define BUNDLE                                                                                     \
	{'b', "bundle", "DIR", "the bundle's directory, by default the current one"},              \
	{                                                                                          \
		'f', "config", "FILE", "another name than config.json (crun)"                      \
	}
#define CONSOLE                                                                                    \
	{                                                                                          \
		0, "console-socket", "SOCKET", "is sent the terminal's descriptor"                 \
	}
#define PID_FILE                                                                                   \
	{                                                                                          \
		0, "pid-file", "FILE", "the process' id is written there"                          \
	}
#define PRESERVE_FDS                                                                               \
	{                                                                                          \
		0, "preserve-fds", "N", "descriptors from 3 on that are passed on"                 \
	}
#define MAKE                                                                                       \
	BUNDLE, CONSOLE, PID_FILE, PRESERVE_FDS,                                                   \
		{0, "pidfd-socket", "SOCKET", "is sent a descriptor of the process"},              \
		{0, "no-pivot", NULL, "no pivot_root(2)"},                                         \
		{0, "no-new-keyring", NULL, "the caller's session keyring"},                       \
	{                                                                                          \
		0, "no-subreaper", NULL, "do not become the parent of orphans"                     \
	}
#define DETACH                                                                                     \
	{                                                                                          \
		'd', "detach", NULL, "do not wait for the process"                                 \
	}
#define CRIU                                                                                       \
	{0, "image-path", "DIR", "the checkpoint's files"},                                        \
		{0, "work-path", "DIR", "CRIU's log and what it works with"},                      \
		{0, "tcp-established", NULL, "open TCP connections too"},                          \
		{0, "ext-unix-sk", NULL, "sockets to outside too"},                                \
		{0, "shell-job", NULL, "a shell's job"},                                           \
		{0, "file-locks", NULL, "file locks too"},                                         \
		{0, "lazy-pages", NULL, "memory by userfaultfd(2)"},                               \
		{0, "manage-cgroups-mode", "MODE", "soft, full, strict or ignore"},                \
		{0, "empty-ns", "NAMESPACE", "make it, without its contents"},                     \
	{                                                                                          \
		0, "auto-dedup", NULL, "no page twice"                                             \
	}

static const struct oci_option opts_create[] = {MAKE, END};
static const struct oci_option opts_run[] = {
	MAKE, DETACH, {0, "keep", NULL, "do not delete the container at its end"}, END};
static const struct oci_option opts_restore[] = {
	MAKE,
	DETACH,
	CRIU,
	{0, "lsm-profile", "TYPE:NAME", "another security label"},
	{0, "lsm-mount-context", "CONTEXT", "of mounts"},
	END};
static const struct oci_option opts_checkpoint[] = {
	CRIU,
	{0, "parent-path", "DIR", "a checkpoint that this one goes on from"},
	{0, "leave-running", NULL, "the container runs on"},
	{0, "status-fd", "FD", "CRIU says there that it is ready"},
	{0, "page-server", "ADDRESS:PORT", "memory goes there"},
	{0, "pre-dump", NULL, "memory alone"},
	END};
static const struct oci_option opts_exec[] = {
	CONSOLE,
	PID_FILE,
	PRESERVE_FDS,
	DETACH,
	{0, "cwd", "DIR", "working directory"},
	{'e', "env", "NAME=VALUE", "add a variable"},
	{'t', "tty", NULL, "with a terminal"},
	{'u', "user", "UID[:GID]", "as another user"},
	{'g', "additional-gids", "GID", "further groups"},
	{'p', "process", "FILE", "the process as JSON"},
	{0, "process-label", "LABEL", "of SELinux"},
	{0, "apparmor", "PROFILE", "of AppArmor"},
	{0, "no-new-privs", NULL, "no further privileges"},
	{'c', "cap", "CAPABILITY", "add a capability"},
	{0, "cgroup", "PATH", "a cgroup below the container's"},
	{0, "ignore-paused", NULL, "also in a paused container"},
	{0, "pidfd-socket", "SOCKET", "is sent a descriptor of the process"},
	{0, "user-ns-offset", "N", "of youki"},
	END};
static const struct oci_option opts_kill[] = {{'a', "all", NULL, "all processes"},
					      {'r', "regex", NULL, "the id is a pattern (crun)"},
					      END};
static const struct oci_option opts_delete[] = {{'f', "force", NULL, "also one that runs"},
						{'r', "regex", NULL, "the id is a pattern (crun)"},
						END};
static const struct oci_option opts_ps[] = {{'f', "format", "FORMAT", "table or json"}, END};
static const struct oci_option opts_list[] = {
	{'f', "format", "FORMAT", "table or json"}, {'q', "quiet", NULL, "ids alone"}, END};
static const struct oci_option opts_events[] = {{0, "interval", "DURATION", "between figures, 5s"},
						{0, "stats", NULL, "figures once, then end"},
						END};
static const struct oci_option opts_spec[] = {
	{'b', "bundle", "DIR", "the bundle's directory, by default the current one"},
	{0, "rootless", NULL, "for a user that is not root"},
	END};
static const struct oci_option opts_update[] = {
	{'r', "resources", "FILE", "linux.resources as JSON; -: standard input"},
	{0, "blkio-weight", "N", "weight of I/O"},
	{0, "cpu-period", "US", "period of the CPU limit"},
	{0, "cpu-quota", "US", "CPU time in a period"},
	{0, "cpu-burst", "US", "CPU time that may be saved up"},
	{0, "cpu-share", "N", "weight of the CPU"},
	{0, "cpu-rt-period", "US", "period of the realtime limit"},
	{0, "cpu-rt-runtime", "US", "realtime in a period"},
	{0, "cpuset-cpus", "LIST", "processors"},
	{0, "cpuset-mems", "LIST", "memory nodes"},
	{0, "cpu-idle", "0|1", "SCHED_IDLE"},
	{0, "kernel-memory", "BYTES", "of cgroup v1"},
	{0, "kernel-memory-tcp", "BYTES", "of cgroup v1"},
	{0, "memory", "BYTES", "memory limit"},
	{0, "memory-reservation", "BYTES", "soft memory limit"},
	{0, "memory-swap", "BYTES", "memory and swap"},
	{0, "pids-limit", "N", "processes"},
	{0, "l3-cache-schema", "SCHEMA", "of Intel RDT"},
	{0, "mem-bw-schema", "SCHEMA", "of Intel RDT"},
	END};
static const struct oci_option opts_none[] = {END};

const struct oci_option oci_globals[] = {
	{0, "config", "FILE", "gantry's configuration (/etc/gantry/config.yaml, or GANTRY_CONFIG)"},
	{0, "root", "DIR", "where runtimes keep containers, and gantry-oci whose each is"},
	{0, "log", "FILE", "messages go there"},
	{0, "log-format", "FORMAT", "text or json"},
	{0, "debug", NULL, "say more"},
	{0, "systemd-cgroup", NULL, "systemd makes cgroups"},
	{0, "cgroup-manager", "MANAGER", "of crun"},
	{0, "criu", "FILE", "of runc"},
	{0, "rootless", "VALUE", "true, false or auto"},
	{0, "log-level", "LEVEL", "of youki"},
	{'h', "help", NULL, "explain the command"},
	{'v', "version", NULL, "print the versions of gantry-oci and its runtimes"},
	END};

const struct oci_verb oci_verbs[] = {
	{"create", VERB_MAKE, "ID", "make a container of a bundle", opts_create},
	{"start", VERB_OWNED, "ID", "run the process of a container that was made", opts_none},
	{"run", VERB_MAKE, "ID", "create and start", opts_run},
	{"state", VERB_OWNED, "ID", "print a container's state as JSON", opts_none},
	{"kill", VERB_OWNED, "ID [SIGNAL]", "send a signal", opts_kill},
	{"delete", VERB_DELETE, "ID", "delete a container that has ended", opts_delete},
	{"exec", VERB_OWNED, "ID [COMMAND [ARG]...]", "run a command in a container", opts_exec},
	{"ps", VERB_OWNED, "ID [ARG]...", "list a container's processes", opts_ps},
	{"list", VERB_LIST, "", "list the containers of all runtimes", opts_list},
	{"pause", VERB_OWNED, "ID", "stop all processes of a container", opts_none},
	{"resume", VERB_OWNED, "ID", "let them run again", opts_none},
	{"update", VERB_OWNED, "ID", "change a container's resources", opts_update},
	{"events", VERB_OWNED, "ID", "print events and figures of a container", opts_events},
	{"checkpoint", VERB_OWNED, "ID", "write a container's processes to files", opts_checkpoint},
	{"restore", VERB_MAKE, "ID", "make a container of such files", opts_restore},
	{"spec", VERB_PLAIN, "", "write a config.json to begin with", opts_spec},
	{"features", VERB_FEATURES, "", "print as JSON what the runtimes can", opts_none},
	{"completion", VERB_COMPLETION, "bash|zsh|fish", "print the completion script for a shell",
	 opts_none},
	{"help", VERB_HELP, "[COMMAND]", "explain a command", opts_none},
	{"__complete", VERB_COMPLETE, NULL, NULL, opts_none},
	END};

/* --- reading --- */

struct parser {
	struct cmdline *c;
	char **argv;
	int argc, i;
	const struct oci_option *options; /* that may come now */
	bool global;			  /* before the command */
	bool own;			  /* the last one was gantry's, not the runtime's */
};

static const struct oci_verb *find_verb(const char *name)
{
	for (const struct oci_verb *v = oci_verbs; v->name; v++)
		if (streq(v->name, name))
			return v;
	return NULL;
}

static const struct oci_option *find_option(const struct parser *p, const char *name, size_t n)
{
	for (const struct oci_option *o = p->options; o->name; o++)
		if (strlen(o->name) == n && strncmp(o->name, name, n) == 0)
			return o;
	return NULL;
}

static const struct oci_option *find_letter(const struct parser *p, char letter)
{
	for (const struct oci_option *o = p->options; o->name; o++)
		if (o->c == letter)
			return o;
	return NULL;
}

/* What of an option gantry-oci itself looks at. */
static void note(struct parser *p, const char *name, const char *value)
{
	struct cmdline *c = p->c;
	const struct {
		const char *name;
		bool global;
		const char **to;
		bool *flag;
	} known[] = {
		{"root", true, &c->root, NULL},
		{"log", true, &c->log, NULL},
		{"log-format", true, &c->log_format, NULL},
		{"config", true, &c->config, NULL},
		{"systemd-cgroup", true, NULL, &c->systemd_cgroup},
		{"help", true, NULL, &c->help},
		{"version", true, NULL, &c->version},
		{"bundle", false, &c->bundle, NULL},
		{"format", false, &c->format, NULL},
		{"detach", false, NULL, &c->detach},
		{"keep", false, NULL, &c->keep},
		{"quiet", false, NULL, &c->quiet},
		{"regex", false, NULL, &c->many},
		{"help", false, NULL, &c->help},
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (known[i].global != p->global || !streq(known[i].name, name))
			continue;
		if (known[i].to)
			*known[i].to = value;
		else
			*known[i].flag = !value || !streq(value, "false");
	}
}

static int no_value(const struct parser *p, const char *word, struct err *e)
{
	return err_invalid(e, "option %s wants a value%s%s", word, p->global ? "" : ": ",
			   p->global ? "" : p->c->verb->name);
}

/* "--name", "--name=value", "--name value"; with one "-" too, as runc reads them. */
static int long_option(struct parser *p, const char *word, const char *name, struct err *e)
{
	size_t n = strcspn(name, "=");
	const struct oci_option *o = find_option(p, name, n);
	const char *value = name[n] ? name + n + 1 : NULL;
	_cleanup_free_ char *plain = xstrndup(name, n);

	p->own = o == &oci_globals[0];
	if (o && o->metavar && !value) {
		if (p->i + 1 >= p->argc)
			return no_value(p, word, e);
		value = p->argv[++p->i];
	}
	note(p, streq(plain, "help") ? "help" : o ? o->name : plain, value);
	return 0;
}

/* "-b DIR", "-bDIR", "-df". */
static int short_options(struct parser *p, const char *word, struct err *e)
{
	for (const char *s = word + 1; *s; s++) {
		const struct oci_option *o = find_letter(p, *s);

		if (!o && (*s == 'h' || *s == '?'))
			note(p, "help", NULL);
		if (!o)
			continue;
		if (!o->metavar) {
			note(p, o->name, NULL);
			continue;
		}
		if (!s[1] && p->i + 1 >= p->argc)
			return no_value(p, word, e);
		note(p, o->name, s[1] ? s + 1 + (s[1] == '=') : p->argv[++p->i]);
		return 0;
	}
	return 0;
}

static int option(struct parser *p, const char *word, struct err *e)
{
	if (word[1] == '-')
		return long_option(p, word, word + 2, e);
	if (word[2] && find_option(p, word + 1, strcspn(word + 1, "=")))
		return long_option(p, word, word + 1, e);
	return short_options(p, word, e);
}

/* The options before the command, and the command. */
static int read_globals(struct parser *p, struct err *e)
{
	struct cmdline *c = p->c;

	p->global = true;
	p->options = oci_globals;
	for (; p->i < p->argc; p->i++) {
		const char *word = p->argv[p->i];
		int from = p->i, r;

		p->own = false;
		if (*word != '-' || !word[1]) {
			c->verb = find_verb(word);
			if (!c->verb)
				return err_invalid(e, "unknown command \"%s\"", word);
			return 0;
		}
		r = option(p, word, e);
		if (r < 0)
			return r;
		for (; !p->own && from <= p->i; from++)
			c->pass[c->n_pass++] = p->argv[from];
	}
	return 0;
}

/* Commands whose words after the id are another program's, or may begin with "-" (kill ID -9). */
static bool operands_follow(const struct oci_verb *v)
{
	return streq(v->name, "exec") || streq(v->name, "ps") || streq(v->name, "kill");
}

/* What follows the command: options may come after the id. */
static int read_command(struct parser *p, struct err *e)
{
	struct cmdline *c = p->c;
	bool only_operands = false;

	p->global = false;
	p->options = c->verb->options;
	for (int k = p->i; k < p->argc; k++)
		c->pass[c->n_pass++] = p->argv[k];
	for (p->i++; p->i < p->argc; p->i++) {
		const char *word = p->argv[p->i];
		int r;

		if (only_operands || *word != '-' || !word[1]) {
			if (!c->id)
				c->id = word;
			only_operands |= operands_follow(c->verb);
		} else if (streq(word, "--")) {
			only_operands = true;
		} else {
			r = option(p, word, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int cmdline_parse(int argc, char **argv, struct cmdline *ret, struct err *e)
{
	struct parser p = {.c = ret, .argv = argv, .argc = argc, .i = 1};
	int r;

	*ret = (struct cmdline){0};
	ret->pass = xcalloc((size_t)argc + 1, sizeof(*ret->pass));
	r = read_globals(&p, e);
	if (r == 0 && ret->verb)
		r = read_command(&p, e);
	return r;
}

void cmdline_fini(struct cmdline *c)
{
	free(c->pass);
	*c = (struct cmdline){0};
}
