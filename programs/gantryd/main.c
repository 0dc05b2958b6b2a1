/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gantryd: the CRI daemon.
 *
 * One thread, one loop.  main() reads flags and configuration, opens the node and the
 * socket, recovers what a past daemon left, serves, and on SIGTERM drains.  Pods outlive it.
 */
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "config/config.h"
#include "cri/cri.h"
#include "ipc/spawner.h"
#include "listen.h"
#include "notify.h"
#include "pod/node.h"
#include "pod/stream.h"
#include "wire/scrape.h"

#define DRAIN_LIMIT (10 * USEC_PER_SEC) /* requests in flight get so long at the end */
/* A turn of the event loop that takes longer is reported, and in tests the end. */
#ifdef __SANITIZE_ADDRESS__
#define TURN_LIMIT (500 * USEC_PER_MS) /* instrumented code, and fork() copies its shadow */
#else
#define TURN_LIMIT (50 * USEC_PER_MS)
#endif

struct daemon {
	struct loop *loop;
	struct config_flags flags;
	const struct config *config; /* in force; node has it too */
	struct node *node;
	struct cri *cri;
	int listen_fd;
	struct scrape_server *metrics; /* NULL: not served */
	bool socket_ours;
	bool reloading, reload_again;
	struct loop_timer drain_limit, notify_timer;
	uint64_t notify_every;
	struct rlimit nofile; /* as it was given */
};

static const char usage[] =
	"Usage: gantryd [OPTION]...\n"
	"Serve the Kubernetes container runtime interface (CRI v1) on a unix socket.\n"
	"\n"
	"  --config FILE     configuration (default: /etc/gantry/config.yaml where it exists)\n"
	"  --root DIR        images, containers and the index (/var/lib/gantry)\n"
	"  --state DIR       sockets and what a reboot may forget (/run/gantry)\n"
	"  --address PATH    the socket to serve on (/run/gantry/gantry.sock)\n"
	"  --log-level NAME  error, warn, info or debug (info)\n"
	"  --check-config    read the configuration, say what is wrong with it, and end\n"
	"  --dump-config     print the configuration in force as YAML, and end\n"
	"  --version         print the version, and end\n"
	"  --help            print this, and end\n"
	"\n"
	"A flag overrides the file, the file overrides the defaults; no file is needed.\n"
	"Signals: TERM and INT end the daemon; pods and containers go on without it.\n"
	"HUP has it read its configuration anew.\n"
	"See gantryd(8), gantry-config.yaml(5).\n";

static int fail(const struct err *e)
{
	log_error("%s", e->msg);
	return 1;
}

/* --- end --- */

static void on_drained(void *arg)
{
	struct daemon *d = arg;

	loop_stop(d->loop, 0);
}

static void on_drain_limit(struct loop_timer *t)
{
	struct daemon *d = container_of(t, struct daemon, drain_limit);

	log_warn("requests were still in flight after %llu s, ending without them",
		 (unsigned long long)(DRAIN_LIMIT / USEC_PER_SEC));
	loop_stop(d->loop, 0);
}

static void on_terminate(struct loop *l, int signo, void *arg)
{
	struct daemon *d = arg;

	log_info("%s: draining", strsignal(signo));
	notify_send("STOPPING=1");
	if (!d->cri || d->node->draining) {
		loop_stop(l, 0);
		return;
	}
	d->node->draining = true;
	loop_timer_set(l, &d->drain_limit, clock_mono_us() + DRAIN_LIMIT, on_drain_limit);
	streams_drain(d->node->streams);
	cri_drain(d->cri, on_drained, d);
}

/* --- reload --- */

/* The file as it is now; empty where there is none and need be none. */
static int read_config(struct daemon *d, struct strbuf *ret, struct err *e)
{
	bool must_exist;
	const char *file = config_file(&d->flags, &must_exist);
	int r = image_worker_read(d->node->images, file, CONFIG_FILE_MAX, ret, e);

	if (r == -ENOENT && !must_exist)
		return 0;
	return r < 0 ? err_wrap(e, "read the configuration %s", file) : 0;
}

/* As a whole or not at all. */
static int take_config(struct daemon *d, struct err *e)
{
	_cleanup_strbuf_ struct strbuf text = STRBUF_NULL, fixed = STRBUF_NULL;
	struct config *c;
	int r = read_config(d, &text, e);

	if (r == 0)
		r = config_new(&d->flags, &text, &c, e);
	if (r < 0)
		return r;
	config_keep_fixed(d->config, c, &fixed);
	if (fixed.len)
		log_warn("settings that need a restart are as they were: %s", fixed.s);
	node_set_config(d->node, c);
	config_unref(d->config);
	d->config = c;
	log_set_level(c->log.level);
	return 0;
}

static void tell_reloading(void)
{
	char text[64];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
		 (unsigned long long)clock_mono_us());
	notify_send(text);
}

static void reload_once(struct daemon *d)
{
	struct node *n = d->node;
	struct err e = ERR_NULL;

	tell_reloading();
	n->reload_bad = take_config(d, &e) < 0;
	*(n->reload_bad ? &n->reloads_failed : &n->reloads) += 1;
	if (n->reload_bad) {
		log_error("the configuration stays as it was: %s", e.msg);
		notify_send(
			"READY=1\nSTATUS=The configuration could not be reloaded, see the log.");
	} else {
		log_info("the configuration has been reloaded");
		notify_send("READY=1\nSTATUS=");
	}
}

static void reload_run(void *arg)
{
	struct daemon *d = arg;

	do {
		d->reload_again = false;
		reload_once(d);
	} while (d->reload_again && !d->node->draining);
	d->reloading = false;
}

static void reload(struct daemon *d)
{
	d->reloading = true;
	co_start(d->loop, reload_run, d);
}

static void on_hangup(struct loop *l, int signo, void *arg)
{
	struct daemon *d = arg;

	(void)l;
	(void)signo;
	if (d->reloading || !d->cri) /* it is not over yet, or the start is not */
		d->reload_again = true;
	else if (!d->node->draining)
		reload(d);
}

/* --- start --- */

static void on_notify(struct loop_timer *t)
{
	struct daemon *d = container_of(t, struct daemon, notify_timer);

	notify_send("WATCHDOG=1");
	loop_timer_set(d->loop, t, clock_mono_us() + d->notify_every, on_notify);
}

static void on_slow_turn(struct loop *l, uint64_t took_us, const char *what)
{
	log_warn("the event loop was held up for %llu ms (%s)",
		 (unsigned long long)(took_us / USEC_PER_MS), what);
#ifdef GANTRY_TEST_HOOKS
	if (getenv("GANTRY_WATCHDOG") && streq(getenv("GANTRY_WATCHDOG"), "abort"))
		abort();
#endif
}

static void print_metrics(void *arg, struct strbuf *to)
{
	cri_prometheus(arg, to);
}

/* A daemon without is better than none. */
static void serve_metrics(struct daemon *d)
{
	const char *where = d->config->metrics.address;
	struct listen_address a;
	struct err e = ERR_NULL;
	int fd, r;

	if (!*where)
		return;
	r = listen_parse("metrics.address", where, &a, &e);
	if (r == 0)
		r = listen_at(&a, &fd, &e);
	if (r == 0)
		r = scrape_server_new(d->loop, fd, print_metrics, d->cri, &d->metrics, &e);
	if (r < 0)
		log_error("metrics are not served on %s: %s", where, e.msg);
	else
		log_info("metrics are served on %s", where);
}

static void start(void *arg)
{
	struct daemon *d = arg;
	struct err e = ERR_NULL;

	int r = streams_check(d->config, &e);

	if (r == 0)
		r = node_recover(d->node, &e);
	if (r == 0)
		r = sock_listen_unix(d->config->address, &d->listen_fd, &e);
	d->socket_ours = r == 0;
	if (r == 0)
		r = streams_open(d->node, &d->node->streams, &e);
	if (r == 0)
		r = cri_new(d->node, d->listen_fd, &d->cri, &e);
	if (r < 0) {
		loop_stop(d->loop, fail(&e));
		return;
	}
	serve_metrics(d);
	log_info("gantryd %s serves CRI v1 on %s", GANTRY_VERSION, d->config->address);
	notify_send("READY=1");
	if (d->notify_every)
		on_notify(&d->notify_timer);
	if (d->reload_again)
		reload(d);
	malloc_trim(0);
}

static int open_node(struct daemon *d, struct err *e)
{
	loop_watchdog(d->loop, TURN_LIMIT, on_slow_turn);
	if (loop_signal_add(d->loop, SIGTERM, on_terminate, d) < 0 ||
	    loop_signal_add(d->loop, SIGINT, on_terminate, d) < 0 ||
	    loop_signal_add(d->loop, SIGHUP, on_hangup, d) < 0)
		return err_errno(e, -errno, "signals");
	return node_open(d->loop, d->config, &d->nofile, &d->node, e);
}

static void end_metrics(struct daemon *d)
{
	static const char prefix[] = "unix:";

	if (d->metrics && str_has_prefix(d->config->metrics.address, prefix))
		unlink(d->config->metrics.address + strlen(prefix));
	d->metrics = scrape_server_free(d->metrics);
}

static int serve(struct daemon *d)
{
	struct err e = ERR_NULL;
	int r = loop_new(&d->loop);

	if (r < 0)
		return fail((err_errno(&e, r, "event loop"), &e));
	if (open_node(d, &e) < 0) {
		d->loop = loop_free(d->loop);
		return fail(&e);
	}
	d->notify_every = notify_watchdog_us() / 2;
	co_start(d->loop, start, d);
	r = loop_run(d->loop);
	if (d->socket_ours)
		unlink(d->config->address);
	end_metrics(d);
	d->cri = cri_free(d->cri);
	d->node->streams = streams_close(d->node->streams);
	d->node = node_close(d->node);
	spawner_close();
	d->loop = loop_free(d->loop);
	co_pool_free();
	return r < 0 ? 1 : r;
}

/* For itself as many files as it may have; what it was given is what containers get. */
static void raise_limits(struct rlimit *ret_nofile)
{
	struct rlimit nofile;

	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
		*ret_nofile = nofile;
		nofile.rlim_cur = nofile.rlim_max;
		setrlimit(RLIMIT_NOFILE, &nofile);
	}
	signal(SIGPIPE, SIG_IGN);
	umask(0022);
	/* One arena, and freed bursts go back to the kernel. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, 256 * 1024);
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
}

enum {
	OPT_CONFIG = 256,
	OPT_ROOT,
	OPT_STATE,
	OPT_ADDRESS,
	OPT_LEVEL,
	OPT_CHECK,
	OPT_DUMP,
	OPT_VERSION,
	OPT_HELP,
	OPT_FOLD,
	OPT_FAULTS
};

static const struct option options[] = {
	{"config", required_argument, NULL, OPT_CONFIG},
	{"root", required_argument, NULL, OPT_ROOT},
	{"state", required_argument, NULL, OPT_STATE},
	{"address", required_argument, NULL, OPT_ADDRESS},
	{"log-level", required_argument, NULL, OPT_LEVEL},
	{"check-config", no_argument, NULL, OPT_CHECK},
	{"dump-config", no_argument, NULL, OPT_DUMP},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{"fold-index", required_argument, NULL, OPT_FOLD}, /* the daemon calls itself with it */
	{"fault-points", no_argument, NULL, OPT_FAULTS},
	{0},
};

static int fold_index(const char *path)
{
	struct err e = ERR_NULL;

	return state_checkpoint(path, &e) < 0 ? fail(&e) : 0;
}

static int dump(const struct config *c)
{
	_cleanup_strbuf_ struct strbuf b = STRBUF_NULL;

	config_dump(c, &b);
	return fs_write_all(STDOUT_FILENO, b.s, b.len) < 0;
}

int main(int argc, char **argv)
{
	struct daemon d = {.listen_fd = -EBADF};
	struct config *config;
	struct err e = ERR_NULL;
	int what = 0, opt, r;

	log_init("gantryd", LOG_LEVEL_INFO);
	notify_init();
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case OPT_CONFIG:
			d.flags.file = optarg;
			break;
		case OPT_ROOT:
			d.flags.root = optarg;
			break;
		case OPT_STATE:
			d.flags.state = optarg;
			break;
		case OPT_ADDRESS:
			d.flags.address = optarg;
			break;
		case OPT_LEVEL:
			d.flags.log_level = optarg;
			break;
		case OPT_FOLD:
			return fold_index(optarg);
		case OPT_FAULTS:
			return fault_print_points();
		case OPT_VERSION:
			printf("gantryd %s\n", GANTRY_VERSION);
			return 0;
		case OPT_HELP:
			fputs(usage, stdout);
			return 0;
		case OPT_CHECK:
		case OPT_DUMP:
			what = opt;
			break;
		default:
			fputs("Try 'gantryd --help'.\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "gantryd: unexpected argument \"%s\"\nTry 'gantryd --help'.\n",
			argv[optind]);
		return 2;
	}
	if (config_new(&d.flags, NULL, &config, &e) < 0) {
		fprintf(stderr, "gantryd: %s\n", e.msg);
		return 1;
	}
	d.config = config;
	if (what == OPT_CHECK) {
		puts("The configuration is good.");
		r = 0;
	} else if (what == OPT_DUMP) {
		r = dump(d.config);
	} else {
		log_init("gantryd", d.config->log.level);
		raise_limits(&d.nofile);
		spawner_open();
		r = serve(&d);
	}
	config_unref(d.config);
	return r;
}
