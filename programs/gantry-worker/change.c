/* SPDX-License-Identifier: Apache-2.0 */
/* Configurations of imported images: see change.h. */
#include "change.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "wire/json.h"

#define SPACE " \t\r\n"

static int wrong(struct err *e, const char *what, const char *text, const char *why)
{
	return err_invalid(e, "%s %.100s: %s", what, text, why);
}

/* --- words: quotes and backslashes as a shell has them --- */

/* What a backslash takes its meaning from; alone where nothing of the kind follows. */
static const char *escaped(const char *p, bool quoted, struct strbuf *to)
{
	if (p[1] && (!quoted || strchr("\"\\$", p[1])))
		p++;
	strbuf_addc(to, *p);
	return p + 1;
}

static const char *take_quoted(const char *p, struct strbuf *to, const char **ret_why)
{
	char quote = *p++;

	while (*p && *p != quote) {
		if (quote == '"' && *p == '\\') {
			p = escaped(p, true, to);
			continue;
		}
		if (quote == '"' && *p == '$')
			*ret_why = "variables are not replaced; '$' is written \\$";
		strbuf_addc(to, *p++);
	}
	if (!*p) {
		*ret_why = "a quote is not closed";
		return p;
	}
	return p + 1;
}

/* The next word of *at, owned in *ret; false: there is none. */
static bool take_word(const char **at, char **ret, const char **ret_why)
{
	struct strbuf b = STRBUF_NULL;
	const char *p = *at + strspn(*at, SPACE);

	if (!*p)
		return false;
	while (*p && !strchr(SPACE, *p)) {
		if (*p == '"' || *p == '\'') {
			p = take_quoted(p, &b, ret_why);
		} else if (*p == '\\') {
			p = escaped(p, false, &b);
		} else {
			if (*p == '$')
				*ret_why = "variables are not replaced; '$' is written \\$";
			strbuf_addc(&b, *p++);
		}
	}
	*at = p;
	*ret = strbuf_take(&b);
	return true;
}

static int take_words(const char *what, const char *text, struct strv *ret, struct err *e)
{
	const char *at = text, *why = NULL;
	char *word;

	while (!why && take_word(&at, &word, &why))
		strv_take(ret, word);
	if (!why && ret->n == 0)
		why = "nothing is said";
	return why ? wrong(e, what, text, why) : 0;
}

/* A list of strings in JSON. */
static int take_list(const char *what, const char *text, struct strv *ret, struct err *e)
{
	_cleanup_jv_ jv *doc = NULL;
	int r = jv_parse(text, strlen(text), CHANGE_BYTES_MAX, what, &doc, NULL);

	if (r < 0 || !jv_is_array(doc))
		return wrong(e, what, text, "it is no list of strings (JSON)");
	for (size_t i = 0; i < jv_len(doc); i++) {
		const char *s = jv_as_string(jv_at(doc, i));

		if (!s)
			return wrong(e, what, text, "it is no list of strings (JSON)");
		strv_add(ret, s);
	}
	return 0;
}

static void add_once(struct strv *to, const char *s)
{
	if (!strv_contains(to, s))
		strv_add(to, s);
}

/* "NAME=VALUE" takes the place of another with that name. */
static void put_pair(struct strv *to, const char *pair)
{
	size_t n = strcspn(pair, "=") + 1;

	for (size_t i = 0; i < to->n; i++) {
		if (strncmp(to->v[i], pair, n) != 0)
			continue;
		free(to->v[i]);
		to->v[i] = xstrdup(pair);
		return;
	}
	strv_add(to, pair);
}

/* --- instructions --- */

/* A list, or a line for the shell. */
static int set_command(struct strv *to, const char *what, const char *text, struct err *e)
{
	struct strv v = STRV_NULL;
	int r = 0;

	if (*text == '[') {
		r = take_list(what, text, &v, e);
	} else if (!*text) {
		r = wrong(e, what, text, "nothing is said");
	} else {
		strv_add(&v, "/bin/sh");
		strv_add(&v, "-c");
		strv_add(&v, text);
	}
	if (r < 0) {
		strv_fini(&v);
		return r;
	}
	strv_fini(to);
	*to = v;
	return 0;
}

/* "NAME=VALUE..." or, as it was once written, "NAME VALUE". */
static int set_pairs(struct strv *to, const char *what, const char *text, struct err *e)
{
	_cleanup_strv_ struct strv words = STRV_NULL;
	size_t n = strcspn(text, SPACE), eq = strcspn(text, "=");
	int r;

	if (text[n] && eq > n && *text != '"' && *text != '\'') {
		const char *value = text + n + strspn(text + n, SPACE);
		_cleanup_free_ char *pair = xasprintf("%.*s=%s", (int)n, text, value);

		if (!*value || strchr(value, '$'))
			return wrong(e, what, text,
				     *value ? "variables are not replaced; write NAME='...'"
					    : "expected NAME=VALUE");
		put_pair(to, pair);
		return 0;
	}
	r = take_words(what, text, &words, e);
	for (size_t i = 0; r == 0 && i < words.n; i++) {
		if (*words.v[i] == '=' || !strchr(words.v[i], '='))
			r = wrong(e, what, text, "expected NAME=VALUE");
		else
			put_pair(to, words.v[i]);
	}
	return r;
}

static int one_word(const char *what, const char *text, char **ret, struct err *e)
{
	_cleanup_strv_ struct strv words = STRV_NULL;
	int r = take_words(what, text, &words, e);

	if (r == 0 && (words.n != 1 || !*words.v[0]))
		r = wrong(e, what, text, "expected one word");
	if (r == 0)
		*ret = xstrdup(words.v[0]);
	return r;
}

static int set_user(struct changes *c, const char *text, struct err *e)
{
	char *user = NULL;
	int r = one_word("USER", text, &user, e);

	if (r < 0)
		return r;
	free(c->user);
	c->user = user;
	return 0;
}

/* Without "." and "..". owned */
static char *clean_path(const char *path)
{
	_cleanup_free_ char *copy = xstrdup(path);
	_cleanup_strv_ struct strv parts = STRV_NULL;
	struct strbuf b = STRBUF_NULL;
	char *save = NULL;

	for (char *p = strtok_r(copy, "/", &save); p; p = strtok_r(NULL, "/", &save)) {
		if (streq(p, "..") && parts.n) {
			free(parts.v[--parts.n]);
			parts.v[parts.n] = NULL;
		} else if (!streq(p, ".") && !streq(p, "..")) {
			strv_add(&parts, p);
		}
	}
	for (size_t i = 0; i < parts.n; i++)
		strbuf_addf(&b, "/%s", parts.v[i]);
	if (parts.n == 0)
		strbuf_addc(&b, '/');
	return strbuf_take(&b);
}

/* One that is not absolute is below the one before. */
static int set_working_dir(struct changes *c, const char *text, struct err *e)
{
	_cleanup_free_ char *dir = NULL, *full = NULL;
	int r = one_word("WORKDIR", text, &dir, e);

	if (r < 0)
		return r;
	full = *dir == '/' ? xstrdup(dir) : xasprintf("%s/%s", str_or_empty(c->working_dir), dir);
	free(c->working_dir);
	c->working_dir = clean_path(full);
	return 0;
}

static bool is_signal(const char *s)
{
	uint64_t v;

	if (str_to_u64(s, &v))
		return v >= 1 && v <= 64;
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	if (strncasecmp(s, "RTMIN+", 6) == 0 || strncasecmp(s, "RTMAX-", 6) == 0)
		return str_to_u64(s + 6, &v) && v <= 30;
	if (strcasecmp(s, "RTMIN") == 0 || strcasecmp(s, "RTMAX") == 0)
		return true;
	for (int i = 1; i < 32; i++)
		if (sigabbrev_np(i) && strcasecmp(s, sigabbrev_np(i)) == 0)
			return true;
	return false;
}

static int set_stop_signal(struct changes *c, const char *text, struct err *e)
{
	char *s = NULL;
	int r = one_word("STOPSIGNAL", text, &s, e);

	if (r < 0)
		return r;
	if (!is_signal(s)) {
		free(s);
		return wrong(e, "STOPSIGNAL", text, "it is no signal");
	}
	free(c->stop_signal);
	c->stop_signal = s;
	return 0;
}

/* "80", "80/udp", "8000-8010": each port of it. */
static int add_port(struct changes *c, const char *word, struct err *e)
{
	_cleanup_free_ char *copy = xstrdup(word);
	char *slash = strchr(copy, '/'), *dash;
	const char *proto = slash ? slash + 1 : "tcp";
	uint64_t from, to;

	if (slash)
		*slash = '\0';
	dash = strchr(copy, '-');
	if (dash)
		*dash++ = '\0';
	if (!str_to_u64(copy, &from) || !str_to_u64(dash ? dash : copy, &to) || from < 1 ||
	    to > 65535 || from > to ||
	    (!streq(proto, "tcp") && !streq(proto, "udp") && !streq(proto, "sctp")))
		return wrong(e, "EXPOSE", word, "expected PORT[-PORT][/tcp|udp|sctp]");
	for (; from <= to; from++) {
		_cleanup_free_ char *port = xasprintf("%u/%s", (unsigned)from, proto);

		add_once(&c->ports, port);
		if (c->ports.n > CHANGE_PORTS_MAX)
			return wrong(e, "EXPOSE", word, "these are too many ports");
	}
	return 0;
}

static int add_ports(struct changes *c, const char *text, struct err *e)
{
	_cleanup_strv_ struct strv words = STRV_NULL;
	int r = take_words("EXPOSE", text, &words, e);

	for (size_t i = 0; r == 0 && i < words.n; i++)
		r = add_port(c, words.v[i], e);
	return r;
}

static int add_volumes(struct changes *c, const char *text, struct err *e)
{
	_cleanup_strv_ struct strv v = STRV_NULL;
	int r = *text == '[' ? take_list("VOLUME", text, &v, e) : take_words("VOLUME", text, &v, e);

	for (size_t i = 0; r == 0 && i < v.n; i++) {
		if (*v.v[i] != '/')
			r = wrong(e, "VOLUME", text, "a path is not absolute");
		else
			add_once(&c->volumes, v.v[i]);
	}
	return r;
}

int changes_apply(struct changes *c, const char *text, struct err *e)
{
	_cleanup_free_ char *word = NULL, *rest = NULL;
	size_t n, len;

	if (strlen(text) > CHANGE_BYTES_MAX)
		return err_invalid(e, "an instruction has more than %d bytes", CHANGE_BYTES_MAX);
	text += strspn(text, SPACE);
	n = strcspn(text, SPACE);
	word = xstrndup(text, n);
	rest = xstrdup(text + n + strspn(text + n, SPACE));
	for (len = strlen(rest); len && strchr(SPACE, rest[len - 1]); len--)
		rest[len - 1] = '\0';
	if (strcasecmp(word, "CMD") == 0)
		return set_command(&c->cmd, "CMD", rest, e);
	if (strcasecmp(word, "ENTRYPOINT") == 0)
		return set_command(&c->entrypoint, "ENTRYPOINT", rest, e);
	if (strcasecmp(word, "ENV") == 0)
		return set_pairs(&c->env, "ENV", rest, e);
	if (strcasecmp(word, "LABEL") == 0)
		return set_pairs(&c->labels, "LABEL", rest, e);
	if (strcasecmp(word, "USER") == 0)
		return set_user(c, rest, e);
	if (strcasecmp(word, "WORKDIR") == 0)
		return set_working_dir(c, rest, e);
	if (strcasecmp(word, "EXPOSE") == 0)
		return add_ports(c, rest, e);
	if (strcasecmp(word, "STOPSIGNAL") == 0)
		return set_stop_signal(c, rest, e);
	if (strcasecmp(word, "VOLUME") == 0)
		return add_volumes(c, rest, e);
	return err_invalid(e, "\"%.50s\" is no change that can be made; there are " CHANGE_WORDS,
			   word);
}

void changes_fini(struct changes *c)
{
	strv_fini(&c->cmd);
	strv_fini(&c->entrypoint);
	strv_fini(&c->env);
	strv_fini(&c->labels);
	strv_fini(&c->ports);
	strv_fini(&c->volumes);
	free(c->user);
	free(c->working_dir);
	free(c->stop_signal);
	*c = (struct changes){0};
}

/* --- printing --- */

static void print_list(struct jw *w, const char *key, const struct strv *v)
{
	if (v->n == 0)
		return;
	jw_key_array(w, key);
	for (size_t i = 0; i < v->n; i++)
		jw_string(w, v->v[i]);
	jw_array_end(w);
}

/* {"80/tcp": {}} */
static void print_set(struct jw *w, const char *key, const struct strv *v)
{
	if (v->n == 0)
		return;
	jw_key_object(w, key);
	for (size_t i = 0; i < v->n; i++) {
		jw_key_object(w, v->v[i]);
		jw_object_end(w);
	}
	jw_object_end(w);
}

static void print_labels(struct jw *w, const struct strv *v)
{
	if (v->n == 0)
		return;
	jw_key_object(w, "Labels");
	for (size_t i = 0; i < v->n; i++) {
		size_t n = strcspn(v->v[i], "=");
		_cleanup_free_ char *key = xstrndup(v->v[i], n);

		jw_key_string(w, key, v->v[i] + n + 1);
	}
	jw_object_end(w);
}

static void print_text(struct jw *w, const char *key, const char *s)
{
	if (!str_empty(s))
		jw_key_string(w, key, s);
}

void changes_print(const struct changes *c, const struct imported *im, struct strbuf *to)
{
	struct jw w = JW_INIT(to);
	time_t t = (time_t)im->created;
	char created[32];
	struct tm tm;

	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	jw_object_begin(&w);
	jw_key_string(&w, "created", created);
	jw_key_string(&w, "architecture", im->arch);
	jw_key_string(&w, "os", "linux");
	jw_key_object(&w, "config");
	print_text(&w, "User", c->user);
	print_set(&w, "ExposedPorts", &c->ports);
	print_list(&w, "Env", &c->env);
	print_list(&w, "Entrypoint", &c->entrypoint);
	print_list(&w, "Cmd", &c->cmd);
	print_set(&w, "Volumes", &c->volumes);
	print_text(&w, "WorkingDir", c->working_dir);
	print_labels(&w, &c->labels);
	print_text(&w, "StopSignal", c->stop_signal);
	jw_object_end(&w);
	jw_key_object(&w, "rootfs");
	jw_key_string(&w, "type", "layers");
	jw_key_array(&w, "diff_ids");
	jw_string(&w, im->diff_id);
	jw_array_end(&w);
	jw_object_end(&w);
	jw_key_array(&w, "history");
	jw_object_begin(&w);
	jw_key_string(&w, "created", created);
	jw_key_string(&w, "comment", im->message);
	jw_object_end(&w);
	jw_array_end(&w);
	jw_object_end(&w);
}
