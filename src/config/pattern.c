/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns: the compiler and its machine.  See pattern.h. */
#include "config/pattern.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum op {
	CHAR,	   /* the byte c */
	ANY,	   /* any byte */
	NOT_SLASH, /* any but '/' */
	SET,	   /* one of sets[x] */
	SPLIT,	   /* go on with the next step, and with the one `x` further */
	JUMP,	   /* go on with the one `x` further */
};

/* Jumps are relative, so that a part of a program can be copied and moved as it is. */
struct pattern_step {
	uint8_t op, c;
	int16_t x;
};

struct compiler {
	const char *text; /* as it was written */
	const char *at, *end;
	bool glob, image;
	struct pattern_step steps[PATTERN_PROGRAM_MAX];
	size_t n;
	uint64_t sets[PATTERN_SETS_MAX][4];
	size_t n_sets;
	unsigned depth;
	bool alternatives; /* outside of ( ) */
	struct err *e;
};

static int wrong(const struct compiler *c, const char *what)
{
	return err_invalid(c->e, "\"%s\": %s", c->text, what);
}

/* --- making programs --- */

static int emit(struct compiler *c, enum op op, unsigned char byte, long x)
{
	if (c->n == PATTERN_PROGRAM_MAX)
		return wrong(c, "this pattern is too long, or repeats too much");
	c->steps[c->n++] = (struct pattern_step){(uint8_t)op, byte, (int16_t)x};
	return 0;
}

/* Before what begins at `start`. */
static int insert(struct compiler *c, size_t start, enum op op, long x)
{
	int r = emit(c, op, 0, x);

	if (r < 0)
		return r;
	memmove(c->steps + start + 1, c->steps + start, (c->n - 1 - start) * sizeof(*c->steps));
	c->steps[start] = (struct pattern_step){(uint8_t)op, 0, (int16_t)x};
	return 0;
}

/* What begins at `start`, any number of times. */
static int loop(struct compiler *c, size_t start)
{
	long n = (long)(c->n - start);
	int r = insert(c, start, SPLIT, n + 2);

	return r < 0 ? r : emit(c, JUMP, 0, -(n + 1));
}

static int append(struct compiler *c, const struct pattern_step *part, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = emit(c, (enum op)part[i].op, part[i].c, part[i].x);
	return r;
}

/* What begins at `start`, `min` to `max` times (max -1: any number). */
static int repeat(struct compiler *c, size_t start, long min, long max)
{
	struct pattern_step part[PATTERN_PROGRAM_MAX];
	size_t n = c->n - start;
	int r = 0;

	memcpy(part, c->steps + start, n * sizeof(*part));
	c->n = start;
	for (long i = 0; r == 0 && i < min; i++)
		r = append(c, part, n);
	if (r == 0 && max < 0) {
		size_t again = c->n;

		r = append(c, part, n);
		return r < 0 ? r : loop(c, again);
	}
	for (long left = max - min; r == 0 && left > 0; left--) {
		/* (as far as all that is left: bounded, or the program would be too long) */
		if ((size_t)left * (n + 1) > PATTERN_PROGRAM_MAX)
			return wrong(c, "this pattern repeats too much");
		r = emit(c, SPLIT, 0, left * (long)(n + 1));
		if (r == 0)
			r = append(c, part, n);
	}
	return r;
}

/* --- sets: [...] --- */

static bool in_class(const char *name, size_t n, unsigned char b)
{
	bool lower = b >= 'a' && b <= 'z', upper = b >= 'A' && b <= 'Z',
	     digit = b >= '0' && b <= '9';
	const struct {
		const char *name;
		bool is;
	} classes[] = {
		{"alpha", lower || upper},
		{"digit", digit},
		{"alnum", lower || upper || digit},
		{"lower", lower},
		{"upper", upper},
		{"space", b == ' ' || (b >= '\t' && b <= '\r')},
		{"punct", b > ' ' && b < 0x7f && !lower && !upper && !digit},
		{"xdigit", digit || (b >= 'a' && b <= 'f') || (b >= 'A' && b <= 'F')},
	};

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		if (strlen(classes[i].name) == n && !memcmp(classes[i].name, name, n))
			return classes[i].is;
	return false;
}

/* "[:alpha:]" at c->at; the length, 0: there is none. */
static size_t class_at(struct compiler *c, uint64_t set[4])
{
	const char *name = c->at + 2, *close;
	bool some = false;

	if (c->end - c->at < 4 || c->at[0] != '[' || c->at[1] != ':')
		return 0;
	close = memmem(name, (size_t)(c->end - name), ":]", 2);
	for (unsigned b = 0; close && b < 256; b++)
		if (in_class(name, (size_t)(close - name), (unsigned char)b)) {
			set[b / 64] |= UINT64_C(1) << b % 64;
			some = true;
		}
	return some ? (size_t)(close + 2 - c->at) : 0;
}

static int set_range(struct compiler *c, uint64_t set[4])
{
	unsigned char from = (unsigned char)*c->at++, to = from;

	if (from == '[' && c->at < c->end && strchr(":.=", *c->at))
		return wrong(c, "[: is the beginning of alpha, digit, alnum, lower, upper, space, "
				"punct or xdigit, and :]");
	if (c->end - c->at > 1 && c->at[0] == '-' && c->at[1] != ']') {
		to = (unsigned char)c->at[1];
		c->at += 2;
	}
	if (from == '\\' || to == '\\')
		return wrong(c, "\\ in [] has no meaning here; ] goes first, - last");
	if (from >= 0x80 || to >= 0x80)
		return wrong(c, "only ASCII can be in []");
	if (from > to)
		return wrong(c, "a range in [] ends before it begins");
	for (unsigned b = from; b <= to; b++)
		set[b / 64] |= UINT64_C(1) << b % 64;
	return 0;
}

static int add_set(struct compiler *c, const uint64_t set[4])
{
	for (size_t i = 0; i < c->n_sets; i++)
		if (!memcmp(c->sets[i], set, sizeof(c->sets[i])))
			return emit(c, SET, 0, (long)i);
	if (c->n_sets == PATTERN_SETS_MAX)
		return wrong(c, "this pattern has too many different []");
	memcpy(c->sets[c->n_sets], set, sizeof(c->sets[0]));
	return emit(c, SET, 0, (long)c->n_sets++);
}

/* After the '['. */
static int set(struct compiler *c)
{
	uint64_t bits[4] = {0};
	bool negated = c->at < c->end && (*c->at == '^' || (c->glob && *c->at == '!'));
	const char *first = c->at += negated;

	while (c->at < c->end && (*c->at != ']' || c->at == first)) {
		size_t n = class_at(c, bits);
		int r = n ? 0 : set_range(c, bits);

		if (r < 0)
			return r;
		c->at += n;
	}
	if (c->at == c->end)
		return wrong(c, "a [ without its ]");
	c->at++;
	for (int i = 0; negated && i < 4; i++)
		bits[i] = ~bits[i];
	if (c->glob && c->image)
		bits['/' / 64] &= ~(UINT64_C(1) << '/' % 64);
	return add_set(c, bits);
}

/* --- globs --- */

static int glob_step(struct compiler *c)
{
	char b = *c->at++;
	size_t start = c->n, stars = 1;
	int r;

	switch (b) {
	case '*':
		for (; c->at < c->end && *c->at == '*'; c->at++)
			stars++;
		r = emit(c, c->image && stars == 1 ? NOT_SLASH : ANY, 0, 0);
		return r < 0 ? r : loop(c, start);
	case '?':
		return emit(c, c->image ? NOT_SLASH : ANY, 0, 0);
	case '[':
		return set(c);
	case '\\':
		if (c->at == c->end)
			return wrong(c, "nothing follows the last \\");
		b = *c->at++;
		break;
	default:
		break;
	}
	return emit(c, CHAR, (unsigned char)b, 0);
}

/* --- regular expressions --- */

static int alternatives(struct compiler *c);

static int group(struct compiler *c)
{
	int r;

	if (++c->depth > PATTERN_DEPTH_MAX)
		return wrong(c, "too many ( in each other");
	r = alternatives(c);
	if (r < 0)
		return r;
	if (c->at == c->end)
		return wrong(c, "a ( without its )");
	c->at++;
	c->depth--;
	return 0;
}

static int atom(struct compiler *c)
{
	unsigned char b = (unsigned char)*c->at++;

	switch (b) {
	case '(':
		return group(c);
	case '[':
		return set(c);
	case '.':
		return emit(c, ANY, 0, 0);
	case '*':
	case '+':
	case '?':
	case '{':
		return wrong(c, "nothing is before a *, +, ? or { that it could repeat");
	case '^':
	case '$':
		return wrong(c, "a pattern fits a name as a whole: ^ can only be at its beginning, "
				"$ at its end");
	case '\\':
		if (c->at == c->end)
			return wrong(c, "nothing follows the last \\");
		b = (unsigned char)*c->at++;
		if (in_class("alnum", 5, b))
			return wrong(c, "letters and digits have no meaning after \\ here");
		break;
	default:
		break;
	}
	return emit(c, CHAR, b, 0);
}

/* Decimal digits; -1: none, or too many. */
static long number(struct compiler *c)
{
	long v = -1;

	for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
		v = (v < 0 ? 0 : v) * 10 + (*c->at - '0');
		if (v > PATTERN_REPEAT_MAX)
			return -1;
	}
	return v;
}

/* "m}", "m,}" or "m,n}" after the '{'. */
static int bounds(struct compiler *c, long *ret_min, long *ret_max)
{
	long min = number(c), max = min;

	if (min >= 0 && c->at < c->end && *c->at == ',') {
		c->at++;
		max = c->at < c->end && *c->at == '}' ? -1 : number(c);
		if (max < 0 && (c->at == c->end || *c->at != '}'))
			min = -1;
	}
	if (min < 0 || c->at == c->end || *c->at != '}' || max == 0 || (max > 0 && max < min))
		return wrong(c, "{ must begin {m}, {m,} or {m,n} with m to n from 0 to 255");
	c->at++;
	*ret_min = min;
	*ret_max = max;
	return 0;
}

static int quantifier(struct compiler *c, size_t start)
{
	long min = 0, max = -1;
	int r;

	if (c->at == c->end || !strchr("*+?{", *c->at))
		return 0;
	switch (*c->at++) {
	case '+':
		min = 1;
		break;
	case '?':
		max = 1;
		break;
	case '{':
		r = bounds(c, &min, &max);
		if (r < 0)
			return r;
		break;
	default:
		break;
	}
	return repeat(c, start, min, max);
}

static int branch(struct compiler *c)
{
	const char *begin = c->at;

	while (c->at < c->end && *c->at != '|' && *c->at != ')') {
		size_t start = c->n;
		int r = atom(c);

		if (r == 0)
			r = quantifier(c, start);
		if (r < 0)
			return r;
	}
	if (c->at == begin)
		return wrong(c, "a part that is empty");
	return 0;
}

static int alternatives(struct compiler *c)
{
	size_t last = SIZE_MAX; /* the jump behind the branch before, its `x` the one before that */

	for (;;) {
		size_t start = c->n;
		int r = branch(c);

		if (r < 0)
			return r;
		if (c->at == c->end || *c->at == ')')
			break;
		c->at++;
		c->alternatives |= c->depth == 0;
		r = insert(c, start, SPLIT, (long)(c->n - start) + 2);
		if (r == 0)
			r = emit(c, JUMP, 0, last == SIZE_MAX ? -1 : (long)last);
		if (r < 0)
			return r;
		last = c->n - 1;
	}
	while (last != SIZE_MAX) {
		int16_t before = c->steps[last].x;

		c->steps[last].x = (int16_t)(c->n - last);
		last = before < 0 ? SIZE_MAX : (size_t)before;
	}
	return 0;
}

/* Whether the '$' at the end is one, and not "\$". */
static bool ends_with_dollar(const struct compiler *c)
{
	size_t backslashes = 0;

	if (c->at == c->end || c->end[-1] != '$')
		return false;
	for (const char *p = c->end - 1; p > c->at && p[-1] == '\\'; p--)
		backslashes++;
	return backslashes % 2 == 0;
}

static int regex(struct compiler *c)
{
	bool anchored = false;
	int r;

	if (c->at < c->end && *c->at == '^') {
		anchored = true;
		c->at++;
	}
	if (ends_with_dollar(c)) {
		anchored = true;
		c->end--;
	}
	r = alternatives(c);
	if (r < 0)
		return r;
	if (c->at < c->end)
		return wrong(c, "a ) without its (");
	/* (In "^a|b$" each would be for one of the two.) */
	if (anchored && c->alternatives)
		return wrong(c, "^ and $ beside | at the outside: put the alternatives into ( )");
	return 0;
}

/* --- images --- */

/* Where the parts of a reference are in a glob; bytes in [] and after \ are none of them. */
struct parts {
	size_t slash;  /* the first; the length where there is none */
	size_t slash2; /* the second */
	size_t colon;  /* of the tag */
	size_t at;
};

static void split(const char *s, struct parts *ret)
{
	size_t n = strlen(s), slashes = 0;
	bool in_set = false;

	*ret = (struct parts){n, n, n, n};
	for (size_t i = 0; i < n && ret->at == n; i++) {
		if (s[i] == '\\' && s[i + 1])
			i++;
		else if (s[i] == '[')
			in_set = true;
		else if (s[i] == ']')
			in_set = false;
		else if (in_set)
			continue;
		else if (s[i] == '/') {
			ret->colon = n;
			if (++slashes == 1)
				ret->slash = i;
			else if (slashes == 2)
				ret->slash2 = i;
		} else if (s[i] == ':')
			ret->colon = i;
		else if (s[i] == '@')
			ret->at = i;
	}
}

static bool word_is(const char *s, size_t n, const char *word)
{
	return strlen(word) == n && !memcmp(s, word, n);
}

/* The glob with host and "library/" as reference_parse() would have added them; owned. */
static int complete(struct compiler *c, const char *s, char **ret, enum pattern_about *ret_about)
{
	const char *host = "docker.io", *path = s;
	size_t host_len = strlen(host);
	struct parts p;
	bool two;

	split(s, &p);
	*ret_about = s[p.at] ? PATTERN_TEXT : s[p.colon] ? PATTERN_NAME_TAG : PATTERN_NAME;
	if (streq(s, "*")) {
		*ret = xstrdup("**");
		return 0;
	}
	if (!strncmp(s, "**", 2) && (!s[2] || strchr("/:@", s[2]))) {
		*ret = xstrdup(s);
		return 0;
	}
	if (word_is(s, p.slash, "*"))
		return wrong(c, "the first * may be a host or an organisation: write **/ for any "
				"host, or docker.io/*/ for any organisation there");
	two = s[p.slash];
	if (two && (memchr(s, '.', p.slash) || memchr(s, ':', p.slash) ||
		    word_is(s, p.slash, "localhost"))) {
		path = s + p.slash + 1;
		if (!word_is(s, p.slash, "index.docker.io")) {
			host = s;
			host_len = p.slash;
		}
		two = s[p.slash2];
	}
	*ret = xasprintf("%.*s/%s%s", (int)host_len, host,
			 !two && word_is(host, host_len, "docker.io") && strncmp(path, "**", 2) != 0
				 ? "library/"
				 : "",
			 path);
	return 0;
}

/* --- what is found out about a program --- */

/* The step after what begins at `i`, which may be left out or has alternatives. */
static size_t skip(const struct compiler *c, size_t i)
{
	size_t to = i + (size_t)c->steps[i].x;
	const struct pattern_step *last = &c->steps[to - 1];

	return last->op == JUMP && last->x > 0 ? to - 1 + (size_t)last->x : to;
}

static unsigned trigram(const char *s)
{
	const unsigned char *b = (const unsigned char *)s;
	uint32_t h = (b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16) * UINT32_C(2654435761);

	return 1 + (h >> 16) % (PATTERN_SIGNATURE_BITS - 1);
}

void pattern_sign(struct pattern_signature *to, const char *s, size_t n)
{
	to->bits[0] |= 1;
	for (size_t i = 0; i + 3 <= n; i++) {
		unsigned bit = trigram(s + i);

		to->bits[bit / 64] |= UINT64_C(1) << bit % 64;
	}
}

/* The end of the longest run of bytes that each name has. */
static void require(const struct compiler *c, struct pattern_required *ret)
{
	char run[PATTERN_PROGRAM_MAX], best[PATTERN_PROGRAM_MAX];
	size_t n = 0, n_best = 0;

	for (size_t i = 0; i < c->n;) {
		bool byte = c->steps[i].op == CHAR;

		if (byte)
			run[n++] = (char)c->steps[i].c;
		if (n > n_best) {
			memcpy(best, run, n);
			n_best = n;
		}
		if (!byte)
			n = 0;
		i = c->steps[i].op == SPLIT ? skip(c, i) : i + 1;
	}
	for (size_t k = 0; k < PATTERN_REQUIRED; k++)
		ret->bit[k] = n_best >= 3 + k ? (uint16_t)trigram(best + n_best - 3 - k) : 0;
}

static void finish(struct compiler *c, struct arena *a, struct pattern *p)
{
	char prefix[PATTERN_PROGRAM_MAX];
	size_t k = 0;

	require(c, &p->required);
	for (; k < c->n && c->steps[k].op == CHAR; k++)
		prefix[k] = (char)c->steps[k].c;
	p->prefix = arena_strndup(a, prefix, k);
	p->prefix_len = (uint16_t)k;
	p->n = (uint16_t)(c->n - k);
	p->steps = p->n ? arena_memdup(a, c->steps + k, p->n * sizeof(*c->steps)) : NULL;
	p->sets = c->n_sets ? arena_memdup(a, c->sets, c->n_sets * sizeof(*c->sets)) : NULL;
}

static int compile(struct compiler *c, bool image, const char *text, enum pattern_about *ret_about,
		   char **ret_text)
{
	int r = 0;

	*ret_about = PATTERN_TEXT;
	if (!c->glob) {
		c->at = text + 1;
		c->end = text + strlen(text);
		if (image)
			*ret_about = PATTERN_NAME_OR_TEXT;
		return regex(c);
	}
	if (image)
		r = complete(c, text, ret_text, ret_about);
	else
		*ret_text = xstrdup(text);
	if (r < 0)
		return r;
	c->at = *ret_text;
	c->end = c->at + strlen(c->at);
	while (r == 0 && c->at < c->end)
		r = glob_step(c);
	return r;
}

int pattern_compile(struct arena *a, const char *text, bool image, struct pattern *ret,
		    struct err *e)
{
	_cleanup_free_ char *completed = NULL;
	_cleanup_free_ struct compiler *c = xcalloc(1, sizeof(*c));
	struct pattern p = {0};
	int r;

	*c = (struct compiler){.text = text, .e = e, .glob = *text != '~', .image = image};
	if (!*text)
		return wrong(c, "a pattern must not be empty");
	if (strlen(text) > PATTERN_MAX)
		return err_invalid(e, "a pattern of more than %d bytes", PATTERN_MAX);
	r = compile(c, image, text, &p.about, &completed);
	if (r < 0)
		return r;
	p.text = arena_strdup(a, text);
	finish(c, a, &p);
	*ret = p;
	return 0;
}

size_t pattern_cost(const struct pattern *p)
{
	size_t i = 0;

	while (i < p->n && p->steps[i].op != SPLIT)
		i++;
	return 1 + p->n - i;
}

/* --- the machine --- */

struct threads {
	uint16_t at[PATTERN_PROGRAM_MAX];
	size_t n;
};

/* Each step at most once for a byte: `round` tells. */
struct machine {
	const struct pattern *p;
	uint16_t mark[PATTERN_PROGRAM_MAX + 1];
	uint16_t round;
};

static void add(struct machine *m, struct threads *t, size_t step)
{
	uint16_t todo[PATTERN_PROGRAM_MAX + 2];
	size_t n = 0;

	todo[n++] = (uint16_t)step;
	while (n) {
		size_t i = todo[--n];
		const struct pattern_step *s = &m->p->steps[i];

		if (m->mark[i] == m->round)
			continue;
		m->mark[i] = m->round;
		if (i == m->p->n)
			continue;
		if (s->op == SPLIT || s->op == JUMP)
			todo[n++] = (uint16_t)(i + (size_t)s->x);
		if (s->op == SPLIT)
			todo[n++] = (uint16_t)(i + 1);
		if (s->op != SPLIT && s->op != JUMP)
			t->at[t->n++] = (uint16_t)i;
	}
}

static bool takes(const struct pattern *p, const struct pattern_step *s, unsigned char b)
{
	switch ((enum op)s->op) {
	case CHAR:
		return s->c == b;
	case ANY:
		return true;
	case NOT_SLASH:
		return b != '/';
	case SET:
		return p->sets[s->x][b / 64] >> b % 64 & 1;
	default:
		return false;
	}
}

/* All of s[0..n), or its first `also` bytes. */
static bool run(const struct pattern *p, const char *s, size_t n, size_t also)
{
	struct threads lists[2], *now = &lists[0], *next = &lists[1];
	struct machine m;

	m.p = p;
	m.round = 1;
	memset(m.mark, 0, (p->n + 1u) * sizeof(m.mark[0]));
	now->n = 0;
	add(&m, now, 0);
	if (also == 0 && m.mark[p->n] == m.round)
		return true;
	for (size_t i = 0; i < n; i++) {
		struct threads *t = now;

		next->n = 0;
		m.round++;
		for (size_t k = 0; k < now->n; k++)
			if (takes(p, &p->steps[now->at[k]], (unsigned char)s[i]))
				add(&m, next, now->at[k] + 1u);
		now = next;
		next = t;
		if (i + 1 == also && m.mark[p->n] == m.round)
			return true;
		if (!now->n && i + 1 < n)
			return false;
	}
	return m.mark[p->n] == m.round;
}

bool pattern_match(const struct pattern *p, const char *s, size_t n)
{
	if (n > PATTERN_SUBJECT_MAX || n < p->prefix_len || memcmp(s, p->prefix, p->prefix_len))
		return false;
	if (!p->n)
		return n == p->prefix_len;
	return run(p, s + p->prefix_len, n - p->prefix_len, SIZE_MAX);
}

bool pattern_match_either(const struct pattern *p, const char *s, size_t n, size_t also)
{
	if (n > PATTERN_SUBJECT_MAX || also < p->prefix_len || also > n)
		return pattern_match(p, s, n);
	if (memcmp(s, p->prefix, p->prefix_len))
		return false;
	if (!p->n)
		return n == p->prefix_len || also == p->prefix_len;
	return run(p, s + p->prefix_len, n - p->prefix_len, also - p->prefix_len);
}
