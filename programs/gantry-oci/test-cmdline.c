/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "base/mem.h"
#include "base/str.h"
#include "cmdline.h"

/* Words separated by one blank; what a runtime would be given is joined the same way. */
struct parsed {
	char *words;
	char *argv[64];
	struct cmdline c;
	struct strbuf pass;
	int r;
};

static void parse(struct parsed *p, const char *line)
{
	char *save = NULL;
	int n = 0;

	*p = (struct parsed){.words = xasprintf("gantry-oci %s", line)};
	for (char *s = strtok_r(p->words, " ", &save); s; s = strtok_r(NULL, " ", &save))
		p->argv[n++] = s;
	p->r = cmdline_parse(n, p->argv, &p->c, NULL);
	for (size_t i = 0; i < p->c.n_pass; i++)
		strbuf_addf(&p->pass, "%s%s", i ? " " : "", p->c.pass[i]);
}

static void done(struct parsed *p)
{
	cmdline_fini(&p->c);
	strbuf_fini(&p->pass);
	free(p->words);
}

/* The id that a line names; "?" where the line is refused, "-" where it names none. */
static const char *id_of(const char *line)
{
	static char id[64];
	struct parsed p;

	parse(&p, line);
	snprintf(id, sizeof(id), "%s", p.r < 0 ? "?" : p.c.id ? p.c.id : "-");
	done(&p);
	return id;
}

static void test_globals(void)
{
	struct parsed p;

	parse(&p, "--root /r --log=/l --log-format json --systemd-cgroup --config /c.yaml "
		  "--platform=systrap state x");
	CHECK_INT(p.r, 0);
	CHECK_STR(p.c.root, "/r");
	CHECK_STR(p.c.log, "/l");
	CHECK_STR(p.c.log_format, "json");
	CHECK_STR(p.c.config, "/c.yaml");
	CHECK(p.c.systemd_cgroup && !p.c.help && !p.c.version);
	CHECK_STR(p.c.verb->name, "state");
	CHECK_STR(p.c.id, "x");
	CHECK_STR(
		p.pass.s,
		"--root /r --log=/l --log-format json --systemd-cgroup --platform=systrap state x");
	done(&p);
	parse(&p, "-root /r --config=/c create -bundle /b --config other.json x");
	CHECK_STR(p.c.root, "/r");
	CHECK_STR(p.c.bundle, "/b");
	CHECK_STR(p.c.config, "/c");
	CHECK_STR(p.c.id, "x");
	CHECK_STR(p.pass.s, "-root /r create -bundle /b --config other.json x");
	done(&p);
	parse(&p, "-v");
	CHECK(p.r == 0 && p.c.version && !p.c.verb);
	done(&p);
	CHECK_STR(id_of("--root"), "?");
	CHECK_STR(id_of("nothing x"), "?");
	CHECK_STR(id_of("/r state x"), "?");
}

static void test_ids(void)
{
	CHECK_STR(id_of("create --bundle /b --pid-file /p --no-pivot x"), "x");
	CHECK_STR(id_of("create -b/b x"), "x");
	CHECK_STR(id_of("create x --bundle /b"), "x");
	CHECK_STR(id_of("create -- -x"), "-x");
	CHECK_STR(id_of("create --bundle"), "?");
	CHECK_STR(id_of("run -db /b x"), "x");
	CHECK_STR(id_of("run --preserve-fds 3 x"), "x");
	CHECK_STR(id_of("exec -t -e A=B --user 0:0 --cwd / x ls -e /"), "x");
	CHECK_STR(id_of("exec --tty=false x ls"), "x");
	CHECK_STR(id_of("exec -p /process.json x"), "x");
	CHECK_STR(id_of("kill --all x KILL"), "x");
	CHECK_STR(id_of("kill x -9"), "x");
	CHECK_STR(id_of("delete -f x"), "x");
	CHECK_STR(id_of("delete x --force"), "x");
	CHECK_STR(id_of("update --memory 1 --pids-limit=2 -r - x"), "x");
	CHECK_STR(id_of("checkpoint --image-path /i --leave-running x"), "x");
	CHECK_STR(id_of("events --stats x"), "x");
	CHECK_STR(id_of("state"), "-");
	CHECK_STR(id_of("list"), "-");
	CHECK_STR(id_of("ps x aux"), "x");
}

static void test_flags(void)
{
	struct parsed p;

	parse(&p, "run --detach --keep --bundle=/b x");
	CHECK(p.c.detach && p.c.keep);
	CHECK_STR(p.c.bundle, "/b");
	done(&p);
	parse(&p, "run --detach=false x");
	CHECK(!p.c.detach);
	done(&p);
	parse(&p, "list -qf json");
	CHECK(p.c.quiet);
	CHECK_STR(p.c.format, "json");
	done(&p);
	parse(&p, "delete --regex x.*");
	CHECK(p.c.many);
	done(&p);
	parse(&p, "kill x -term"); /* no option: a signal */
	CHECK(!p.c.many);
	done(&p);
	parse(&p, "exec x run --help");
	CHECK(!p.c.help);
	done(&p);
	parse(&p, "create --help");
	CHECK(p.c.help);
	done(&p);
}

int main(void)
{
	TEST(globals);
	TEST(ids);
	TEST(flags);
	return test_done();
}
