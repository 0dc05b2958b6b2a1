/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantry: the human's tool.  main() reads the options before the command, finds the command,
 * and runs it; signals become a readable descriptor that every wait looks at.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>

#include "base/fs.h"
#include "cli.h"
#include "text.h"

const struct opt cli_options[] = {
	{.name = "address",
	 .metavar = "PATH",
	 .help = "gantryd's socket (" CLI_ADDRESS ", or GANTRY_ADDRESS)",
	 .complete = COMPLETE_FILE},
	{.name = "timeout", .metavar = "DURATION", .help = "give up a request after that long"},
	{.name = "color",
	 .metavar = "WHEN",
	 .help = "auto, always or never",
	 .words = "auto always never"},
	{.c = 'h', .name = "help", .help = "explain the command"},
	OPT_END,
};

const struct command *const cli_commands[] = {
	&cmd_run,      &cmd_ps,	     &cmd_pods,	   &cmd_logs,	    &cmd_exec,	     &cmd_attach,
	&cmd_forward,  &cmd_stop,    &cmd_wait,	   &cmd_rm,	    &cmd_checkpoint, &cmd_restore,
	&cmd_inspect,  &cmd_stats,   &cmd_images,  &cmd_pull,	    &cmd_load,	     &cmd_save,
	&cmd_import,   &cmd_tag,     &cmd_image,   &cmd_rmi,	    &cmd_route,	     &cmd_info,
	&cmd_runtimes, &cmd_metrics, &cmd_version, &cmd_completion, &cmd_help,	     NULL,
};

/* --- output --- */

void cli_write(const void *p, size_t n)
{
	int r = n ? fs_write_all(STDOUT_FILENO, p, n) : 0;

	if (r == -EPIPE)
		exit(EXIT_OK);
	if (r < 0) {
		fprintf(stderr, "gantry: cannot write to standard output: %s\n", strerror(-r));
		exit(EXIT_FAILED);
	}
}

void cli_print(const char *fmt, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	cli_write(s, strlen(s));
}

static void complain(const char *what, const char *msg)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	strbuf_addf(&b, "gantry: %s", what);
	text_safe_lines(&b, msg);
	strbuf_addc(&b, '\n');
	(void)fs_write_all(STDERR_FILENO, b.s, b.len);
}

void cli_warn(const char *fmt, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	va_end(ap);
	complain("warning: ", s);
}

int cli_fail(const struct cli *cli, const struct err *e)
{
	_cleanup_free_ char *coded = NULL;

	if (e->errnum == -ECANCELED && cli_cancelled(cli)) {
		complain("", "interrupted");
		return EXIT_INTERRUPTED;
	}
	/* What the daemon says carries its code: it is what one searches for. */
	if (e->errnum == -EREMOTEIO)
		coded = xasprintf("%s (%s)", e->msg, err_code_name(e->code));
	complain("", coded ? coded : e->msg);
	return cli->command && cli->command->passes_status ? EXIT_OURS : EXIT_FAILED;
}

int cli_usage(const struct command *c, const struct err *e)
{
	_cleanup_free_ char *s = xasprintf("%s%s%s\nTry 'gantry %s%s--help'.", c ? c->name : "",
					   c ? ": " : "", e->msg, c ? c->name : "", c ? " " : "");

	complain("", s);
	return c && c->passes_status ? EXIT_OURS : EXIT_USAGE;
}

/* --- signals --- */

static int signal_fd = -EBADF;

static void on_signal(int signo)
{
	uint64_t one = 1;
	int saved = errno;

	(void)!write(signal_fd, &one, sizeof(one));
	errno = saved;
}

static void catch_signals(struct cli *cli)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction sa = {.sa_handler = on_signal};

	signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	cli->cancel_fd = signal_fd;
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct sigaction old;

		/* nohup(1) and background jobs of a shell have them ignored: so be it */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
	}
	signal(SIGPIPE, SIG_IGN);
}

bool cli_cancelled(const struct cli *cli)
{
	uint64_t n;

	if (read(cli->cancel_fd, &n, sizeof(n)) != sizeof(n))
		return false;
	(void)!write(cli->cancel_fd, &n, sizeof(n)); /* as it was */
	return true;
}

void cli_cancel_clear(struct cli *cli)
{
	uint64_t n;

	(void)!read(cli->cancel_fd, &n, sizeof(n));
}

/* --- start --- */

/* crictl and the kubelet write "unix:///run/x.sock". */
static const char *plain_path(const char *address)
{
	return address + (str_has_prefix(address, "unix://") ? strlen("unix://") : 0);
}

static int apply_options(struct cli *cli, const struct args *a, struct err *e)
{
	const char *color = args_get(a, "color"), *term = getenv("TERM");
	int r = args_duration(a, "timeout", cli->timeout_us, &cli->timeout_us, e);

	if (args_get(a, "address"))
		cli->address = plain_path(args_get(a, "address"));
	if (!color)
		return r;
	cli->color = streq(color, "always") ||
		     (streq(color, "auto") && cli->tty && str_empty(getenv("NO_COLOR")) &&
		      !streq(str_or_empty(term), "dumb"));
	return r;
}

/* Whoever starts us without one of them shall not see a socket of ours in its place. */
static void open_standard(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	fd_close(fd);
}

static void init(struct cli *cli)
{
	const char *address = getenv("GANTRY_ADDRESS"), *term = getenv("TERM");

	open_standard();
	text_init();
	catch_signals(cli);
	cli->address = str_empty(address) ? CLI_ADDRESS : plain_path(address);
	cli->tty = isatty(STDOUT_FILENO);
	cli->color =
		cli->tty && str_empty(getenv("NO_COLOR")) && !streq(str_or_empty(term), "dumb");
}

static int unknown_command(const char *name)
{
	static const char *const later[] = {"cp", "build", "push"};
	const char *near = command_suggest(name);
	struct err e = ERR_NULL;

	for (size_t i = 0; i < ARRAY_SIZE(later); i++)
		if (streq(later[i], name)) {
			err_invalid(&e, "this version of gantry has no '%s'", name);
			return cli_usage(NULL, &e);
		}
	err_invalid(&e, "unknown command '%s'%s%s%s", name, near ? "; did you mean '" : "",
		    str_or_empty(near), near ? "'?" : "");
	return cli_usage(NULL, &e);
}

static int run_command(struct cli *cli, const struct command *c, int argc, char **argv)
{
	struct err e = ERR_NULL;
	struct args a;

	cli->command = c;
	if (args_parse(cli, c, argc, argv, &a, &e) < 0 || apply_options(cli, &a, &e) < 0)
		return cli_usage(c, &e);
	if (args_has(&a, "help"))
		return help_command(c);
	return c->run(cli, &a);
}

/* The options before the command: "gantry --address X ps". */
static const struct command before = {
	.name = "", .operands = "COMMAND", .max = UNLIMITED, .own_options_first = true};

static int dispatch(struct cli *cli, int argc, char **argv)
{
	const struct command *c;
	struct err e = ERR_NULL;
	struct args a;
	size_t words;

	if (argc > 1 && streq(argv[1], "--version"))
		argv[1] = (char *)(uintptr_t) "version";
	if (argc > 1 && streq(argv[1], "__complete"))
		return complete_main(cli, argc - 2, argv + 2);
	if (args_parse(cli, &before, argc - 1, argv + 1, &a, &e) < 0 ||
	    apply_options(cli, &a, &e) < 0)
		return cli_usage(NULL, &e);
	c = a.n ? command_find(a.v[0]) : NULL;
	words = c && a.n > 1 && command_find_sub(c, a.v[1]) ? 2 : 1;
	if (words == 2)
		c = command_find_sub(c, a.v[1]);
	if (args_has(&a, "help"))
		return c ? help_command(c) : help_overview();
	if (a.n == 0) {
		help_overview();
		return EXIT_USAGE;
	}
	if (!c)
		return unknown_command(a.v[0]);
	return run_command(cli, c, (int)(a.n - words), (char **)(uintptr_t)(a.v + words));
}

int main(int argc, char **argv)
{
	struct cli cli = {0};
	int r;

	init(&cli);
	r = dispatch(&cli, argc, argv);
	grpc_client_free(cli.client);
	arena_fini(&cli.arena);
	return r;
}
