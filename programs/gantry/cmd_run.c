/* SPDX-License-Identifier: Apache-2.0 */
/* gantry run: an image in a container, in a pod of its own, followed to its end. */
#include <signal.h>
#include <sys/wait.h>

#include "attach.h"
#include "follow.h"
#include "lookup.h"
#include "progress.h"
#include "run.h"
#include "rundir.h"
#include "text.h"

#define REATTACH_MAX 3			  /* times in a row that a lost session is made again */
#define REATTACH_LONG (60 * USEC_PER_SEC) /* one that lasted so long ends the row */

/* One run: what was made, and has to go again. */
struct run {
	struct cli *cli;
	const struct args *a;
	struct run_config c;
	struct rundir dir;
	bool has_dir;
	char *pod, *container; /* ids; NULL: not made */
	unsigned signals;      /* that came while it ran */
	pid_t stopper;
	bool detached; /* by the keys: it goes on */
};

/* --- the image --- */

static int on_node(struct run *r, Runtime__V1__ImageSpec *image, bool *ret, struct err *e)
{
	Runtime__V1__ImageStatusRequest q = RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT;
	Runtime__V1__ImageStatusResponse *s;
	int res;

	q.image = image;
	res = rpc_call(r->cli, IMAGE, "ImageStatus", &q, &s, e);
	if (res == 0)
		*ret = s->image != NULL;
	return res;
}

static int get_image(struct run *r, Runtime__V1__ImageSpec *image, struct err *e)
{
	const struct run_config *c = &r->c;
	bool there = false;
	const char *id;
	int res = on_node(r, image, &there, e);

	if (res < 0)
		return err_wrap(e, "image %s", image->image);
	if (there && !streq(c->pull, "always"))
		return 0;
	if (!there && streq(c->pull, "never"))
		return err_not_found(e,
				     "image %s is not on this node, and --pull never forbids to "
				     "fetch it",
				     image->image);
	return pull_image(r->cli, image->image, c->username, c->password, c->quiet, &id, e);
}

/* Its own, and those that it mounts. */
static int get_images(struct run *r, struct err *e)
{
	const Runtime__V1__ContainerConfig *c = &r->c.container;
	int res = r->c.archive ? 0 : get_image(r, c->image, e);

	for (size_t i = 0; res == 0 && i < c->n_mounts; i++)
		if (c->mounts[i]->image)
			res = get_image(r, c->mounts[i]->image, e);
	return res;
}

/* --- making --- */

/* The daemon refuses the same name of ours; names of others would be ambiguous later. */
static int check_name(struct run *r, struct err *e)
{
	struct inventory v;
	int res = inventory_load(r->cli, &v, e);

	for (size_t i = 0; res == 0 && !r->c.join && i < v.n_pods; i++) {
		const Runtime__V1__PodSandboxMetadata *m = v.pods[i]->metadata;

		if (m && streq(m->name, r->c.name) && streq(m->namespace_, r->c.namespace_))
			res = err_set(
				e, -EEXIST, GRPC_ALREADY_EXISTS,
				"the name \"%s\" is taken by pod %s: remove it (gantry rm %s) "
				"or give another --name",
				r->c.name, text_id(&r->cli->arena, v.pods[i]->id, false),
				r->c.name);
	}
	if (res == 0 && r->c.join) {
		struct object o;

		res = inventory_find(r->cli, &v, r->c.join, KIND_POD, KIND_POD, &o, e);
		if (res == 0)
			r->pod = arena_strdup(&r->cli->arena, o.id);
	}
	return res;
}

static int make_pod(struct run *r, struct err *e)
{
	Runtime__V1__RunPodSandboxRequest q = RUNTIME__V1__RUN_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__RunPodSandboxResponse *s;
	int res;

	if (r->c.join)
		return 0;
	res = rundir_make(r->cli, &r->dir, e);
	if (res < 0)
		return res;
	r->has_dir = true;
	r->c.pod.log_directory = (char *)(uintptr_t)r->dir.path;
	run_config_annotate(r->cli, &r->c, RUNDIR_ANNOTATION, r->dir.leaf);
	q.config = &r->c.pod;
	q.runtime_handler = (char *)(uintptr_t)r->c.handler;
	res = rpc_call(r->cli, RUNTIME, "RunPodSandbox", &q, &s, e);
	if (res < 0)
		return err_wrap(e, "make pod %s", r->c.name);
	r->pod = s->pod_sandbox_id;
	rundir_done(&r->dir);
	return 0;
}

static int make_container(struct run *r, struct err *e)
{
	Runtime__V1__CreateContainerRequest q = RUNTIME__V1__CREATE_CONTAINER_REQUEST__INIT;
	Runtime__V1__CreateContainerResponse *s;
	int res;

	q.pod_sandbox_id = r->pod;
	q.config = &r->c.container;
	q.sandbox_config = &r->c.pod;
	res = rpc_call(r->cli, RUNTIME, "CreateContainer", &q, &s, e);
	if (res < 0)
		return err_wrap(e, "create container %s", r->c.name);
	r->container = s->container_id;
	return 0;
}

static int start_container(struct run *r, struct err *e)
{
	Runtime__V1__StartContainerRequest t = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
	Runtime__V1__StartContainerResponse *done;
	int res;

	t.container_id = r->container;
	res = rpc_call(r->cli, RUNTIME, "StartContainer", &t, &done, e);
	return res < 0 ? err_wrap(e, "start container %s", r->c.name) : 0;
}

/* --- unmaking --- */

/* A pod whose reply was lost on the way: it is ours by the directory that it names. */
static void find_pod(struct run *r)
{
	struct inventory v;
	struct err e = ERR_NULL;

	if (r->pod || !r->has_dir || inventory_load(r->cli, &v, &e) < 0)
		return;
	for (size_t i = 0; i < v.n_pods; i++) {
		const char *leaf = rundir_of_pod(v.pods[i]);

		if (leaf && streq(leaf, r->dir.leaf))
			r->pod = v.pods[i]->id;
	}
}

static void undo(struct run *r)
{
	Runtime__V1__RemovePodSandboxRequest pq = RUNTIME__V1__REMOVE_POD_SANDBOX_REQUEST__INIT;
	Runtime__V1__RemoveContainerRequest cq = RUNTIME__V1__REMOVE_CONTAINER_REQUEST__INIT;
	struct err e = ERR_NULL;
	void *done;
	int res = 0;

	r->cli->uncancellable = true;
	find_pod(r);
	if (r->c.join && r->container) {
		cq.container_id = r->container;
		res = rpc_call(r->cli, RUNTIME, "RemoveContainer", &cq, &done, &e);
	} else if (!r->c.join && r->pod) {
		pq.pod_sandbox_id = r->pod;
		res = rpc_call(r->cli, RUNTIME, "RemovePodSandbox", &pq, &done, &e);
	}
	if (res < 0)
		cli_warn("%s is left behind: %s", r->c.name, e.msg);
	else if (r->has_dir)
		rundir_remove(r->cli, r->dir.leaf);
	if (r->has_dir)
		rundir_done(&r->dir);
}

/* Kept: its network goes, its state and logs stay. */
static void stop_pod(struct run *r)
{
	Runtime__V1__StopPodSandboxRequest q = RUNTIME__V1__STOP_POD_SANDBOX_REQUEST__INIT;
	struct err e = ERR_NULL;
	void *done;

	r->cli->uncancellable = true;
	if (r->c.join)
		return;
	q.pod_sandbox_id = r->pod;
	if (rpc_call(r->cli, RUNTIME, "StopPodSandbox", &q, &done, &e) < 0)
		cli_warn("stop pod %s: %s", r->c.name, e.msg);
}

/* --- following --- */

/* In a process of its own, so that the output goes on meanwhile. */
static void stop_container(struct run *r, uint64_t grace_us)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	Runtime__V1__StopContainerRequest q = RUNTIME__V1__STOP_CONTAINER_REQUEST__INIT;
	struct cli cli = {.address = r->cli->address, .cancel_fd = -1, .uncancellable = true};
	struct err e = ERR_NULL;
	void *done;

	r->stopper = fork();
	if (r->stopper != 0) {
		if (r->stopper < 0)
			cli_warn("fork: %s", strerror(errno));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		signal(signals[i], SIG_IGN); /* those of the terminal reach this one too */
	q.container_id = r->container;
	q.timeout = (int64_t)((grace_us + USEC_PER_SEC - 1) / USEC_PER_SEC);
	if (rpc_call(&cli, RUNTIME, "StopContainer", &q, &done, &e) < 0)
		cli_warn("stop container %s: %s", r->c.name, e.msg);
	_exit(0);
}

static void signal_came(struct run *r)
{
	cli_cancel_clear(r->cli);
	if (r->signals++ == 0) {
		if (isatty(STDERR_FILENO))
			cli_warn("stopping %s; once more kills it", r->c.name);
		stop_container(r, r->c.stop_us);
	} else {
		stop_container(r, 0);
	}
}

static int on_signal(struct follow *f, struct err *e)
{
	struct run *r = f->arg;

	if (f->lost) { /* nobody there who could stop it */
		cli_cancel_clear(f->cli);
		return err_set(e, -ECANCELED, GRPC_CANCELLED,
			       "interrupted while gantryd does not answer; pod %s is left",
			       r->c.name);
	}
	signal_came(r);
	return 0;
}

static int on_session_signal(struct session *s, struct err *e)
{
	(void)e;
	signal_came(s->arg);
	return 0;
}

/* The exit status, or < 0.  With `show` what it writes is shown, out of its log. */
static int follow(struct run *r, bool show, struct err *e)
{
	struct follow f = {.cli = r->cli,
			   .id = r->container,
			   .name = arena_printf(&r->cli->arena, "container %s", r->c.name),
			   .options = LOG_OPTIONS_ALL,
			   .forever = true,
			   .on_signal = on_signal,
			   .arg = r};
	int res = show ? follow_run(&f, e) : follow_end(&f, e);

	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	if (res < 0)
		return res;
	if (f.gone)
		return err_set(e, -ENOENT, GRPC_NOT_FOUND, "container %s was removed while it ran",
			       r->c.name);
	if (streq(f.status->reason, "OOMKilled"))
		cli_warn("container %s was killed: out of memory", r->c.name);
	return f.status->exit_code & 0xff;
}

static int start_and_follow(struct run *r, struct err *e)
{
	int res = start_container(r, e);

	return res < 0 || r->c.detach ? res : follow(r, true, e);
}

static int open_session(struct run *r, struct session *s, struct err *e)
{
	*s = (struct session){.cli = r->cli,
			      .tty = r->c.container.tty,
			      .input = r->c.container.stdin,
			      .detach_keys = true,
			      .on_signal = on_session_signal,
			      .arg = r};
	return attach_open(s, r->container, e);
}

/*
 * To the container's end, or the detach keys.  A session may end before it (idle for hours; its
 * program was killed): that is no reason to end the container.
 */
static int move(struct run *r, struct session *s, struct err *e)
{
	for (unsigned lost = 0;; lost++) {
		uint64_t began = clock_mono_us();
		struct err why = ERR_NULL;
		int res = session_run(s, e);

		session_close(s);
		if (res != -ECONNRESET)
			return res;
		if (clock_mono_us() - began > REATTACH_LONG)
			lost = 0;
		if (lost >= REATTACH_MAX || open_session(r, s, &why) < 0) {
			if (why.code != GRPC_FAILED_PRECONDITION) /* it has ended */
				cli_warn("%s; container %s goes on without it", e->msg, r->c.name);
			return 0;
		}
		cli_warn("%s; attached to container %s again", e->msg, r->c.name);
	}
}

/* With -i or -t: what it writes comes by itself, also what is no whole line yet. */
static int start_attached(struct run *r, struct err *e)
{
	struct session s;
	int res = open_session(r, &s, e); /* before it starts: nothing is missed */

	if (res < 0)
		return err_wrap(e, "attach to container %s", r->c.name);
	res = start_container(r, e);
	if (res < 0)
		session_close(&s);
	else
		res = move(r, &s, e);
	r->detached = res == 0 && s.detached;
	if (res < 0 || r->detached)
		return res;
	return follow(r, false, e);
}

static int start(struct run *r, struct err *e)
{
	const Runtime__V1__ContainerConfig *c = &r->c.container;

	return !r->c.detach && (c->tty || c->stdin) ? start_attached(r, e) : start_and_follow(r, e);
}

static int failed(struct run *r, struct err *e)
{
	int status = !r->a->command->passes_status ? EXIT_FAILED
		     : e->errnum == -EREMOTEIO	   ? exec_failure_status(e)
						   : EXIT_OURS,
	    said;

	said = cli_fail(r->cli, e); /* before the signal is taken note of */
	return said == EXIT_INTERRUPTED ? said : status;
}

static int run(struct cli *cli, const struct args *a)
{
	struct run r = {.cli = cli, .a = a, .dir = {.lock_fd = -EBADF}};
	struct err e = ERR_NULL;
	int res;

	if (run_config_parse(cli, a, &r.c, &e) < 0)
		return cli_usage(a->command, &e);
	res = check_name(&r, &e);
	if (res == 0)
		res = get_images(&r, &e);
	if (res == 0)
		res = make_pod(&r, &e);
	if (res == 0)
		res = make_container(&r, &e);
	if (res == 0)
		res = start(&r, &e);
	if (res >= 0 && r.c.detach)
		cli_print("%s\n", r.container);
	if (r.detached)
		attach_say_detached(cli, arena_printf(&cli->arena, "container %s", r.c.name));
	if (res >= 0 && (r.c.detach || r.detached))
		return EXIT_OK;
	if (res < 0 && res != -EPIPE)
		res = failed(&r, &e);
	else if (res == -EPIPE)
		res = EXIT_OURS;
	if (r.c.keep && r.container)
		stop_pod(&r);
	else
		undo(&r);
	return res;
}

const struct command cmd_run = {
	.name = "run",
	.operands = "IMAGE [COMMAND [ARG]...]",
	.summary = "run a command in a new container, in a pod of its own",
	.text = "Fetches the image where it is not on the node, makes a pod and a container in it, "
		"shows what the container writes, and ends with its exit status; then pod and logs "
		"are removed. Failures of gantry itself are 125, a command that is not there 127, "
		"one that cannot be executed 126.\n"
		"Interrupting it (Ctrl-C) stops the container as 'gantry stop' does; a second time "
		"kills it. With --detach it is left running, until 'gantry rm -f NAME'.\n"
		"With -i the container gets standard input, with -t a terminal, which follows this "
		"one in its size; with both, keys go to it as they are, Ctrl-C too, and Ctrl-P "
		"Ctrl-Q leaves it running ('gantry attach NAME' comes back).",
	.examples = "gantry run busybox echo hello\n"
		    "gantry run -it busybox sh\n"
		    "tar c . | gantry run -i busybox tar t\n"
		    "gantry run -d --name web -p 8080:80 nginx\n"
		    "gantry run -e DEBUG=1 -v ./data:/data:ro --memory 256m app serve\n"
		    "gantry run --mount type=image,source=quay.io/team/model:1,target=/model app\n"
		    "gantry run --runtime kata --network host busybox ip addr",
	.opts = run_options,
	.complete = COMPLETE_IMAGE,
	.min = 1,
	.max = UNLIMITED,
	.own_options_first = true,
	.passes_status = true,
	.run = run,
};

const struct command cmd_restore = {
	.name = "restore",
	.operands = "FILE|IMAGE",
	.summary = "go on with a container from its checkpoint, in a pod of its own",
	.text = "Makes a container of an archive that 'gantry checkpoint' (or CRI-O, or "
		"containerd) "
		"wrote, or of an image that holds one, which is fetched where it is not on the "
		"node; "
		"its processes go on where they were. Prints the container's id and leaves it "
		"running: see it with 'gantry logs' and 'gantry attach', end it with 'gantry rm -f "
		"NAME'.\n"
		"The image that the container was made of has to be on the node. Each place where "
		"it had a volume needs a --volume or --mount again; -t and -i are to be as they "
		"were. Images are taken for checkpoints only where the node trusts them "
		"(container.restore_images).",
	.examples = "gantry checkpoint counter ./counter.tar\n"
		    "gantry restore ./counter.tar\n"
		    "gantry restore --name again -p 8080:80 -v ./data:/data web.tar",
	.opts = run_options,
	.without = "detach rm keep env env-file pid userns workdir user group-add entrypoint",
	.complete = COMPLETE_FILE,
	.min = 1,
	.max = 1,
	.run = run,
};
